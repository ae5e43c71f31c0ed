"""Every prediction, variance, loss and weighting that the settings allow trains and samples."""

from itertools import combinations, product

import pytest

from iddpm.builders import build_denoiser, build_network, build_sampling_plan, resolve
from iddpm.config import read_config
from iddpm.config.choices import SAMPLERS
from iddpm.sampling import SampleNoise
from tests.builders.steps import trains_and_samples
from tests.conftest import TINY

PREDICTS = ("eps", "x0", "v", "edm", "previous")
VARIANCES = ("learned_range", "learned", "fixed_small", "fixed_large")
LOSSES = ("simple", "hybrid", "vlb")
WEIGHTINGS = ("constant", "min_snr", "sigmoid", "log_normal")


def allowed():
    """The combinations that the settings take, each with its configuration."""
    found = []
    for predicts, variance, loss, weighting, zero in product(
        PREDICTS, VARIANCES, LOSSES, WEIGHTINGS, ("false", "true")
    ):
        weighted = [f"diffusion.loss.weighting={weighting}"] if weighting != "constant" else []
        assignments = [
            f"diffusion.predicts={predicts}",
            f"diffusion.variance={variance}",
            f"diffusion.loss.kind={loss}",
            *weighted,
            f"diffusion.zero_terminal_snr={zero}",
        ]
        try:
            config = read_config(None, [*TINY, "model.channels=1", "model.size=[8]", *assignments])
        except ValueError:
            continue
        found.append(pytest.param(config, id="-".join((predicts, variance, loss, weighting, zero))))
    return found


COMBINATIONS = allowed()


def pairs_of(combination):
    return set(combinations(enumerate(combination.id.split("-")), 2))


def every_pair():
    """As few of the combinations as show any two choices together that may go together."""
    found, missing = [], set().union(*map(pairs_of, COMBINATIONS))
    while missing:
        found.append(max(COMBINATIONS, key=lambda c: len(pairs_of(c) & missing)))
        missing -= pairs_of(found[-1])
    return found


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("sampler", ["auto", *SAMPLERS])
def test_every_sampler_takes_every_variance(sampler, variance):
    loss = "hybrid" if variance.startswith("learned") else "simple"
    config = resolve(
        read_config(
            None,
            [
                *TINY,
                "model.channels=1",
                "model.size=[8]",
                f"diffusion.variance={variance}",
                f"diffusion.loss={loss}",
                f"sampling.sampler={sampler}",
            ],
        )
    )
    denoiser = build_denoiser(config, build_network(config).eval())
    *_, last = build_sampling_plan(config, denoiser, config.sampling).states(
        SampleNoise(0, (2, 1, 8))
    )
    assert last.x.shape == (2, 1, 8)
    assert bool(last.x.isfinite().all())


def test_the_settings_refuse_what_cannot_work_and_nothing_else():
    """Simple with a fixed variance, hybrid with a learned one, vlb with any, weightings not in vlb.

    Zero terminal SNR takes three of five predictions, and constant weights; log-normal weights take
    the same three.
    """
    pairs = 2 + 2  # simple with two variances, hybrid with two
    plain = 5 * (pairs * 3 + 4) + 3 * pairs
    assert len(COMBINATIONS) == plain + 3 * (pairs + 4)


@pytest.mark.parametrize("config", COMBINATIONS)
def test_it_trains_a_step_and_samples(config):
    trains_and_samples(config, (1, 8), batch=8, steps=2, drawn=2, evaluations=4)
