"""Augmentation that is shown to the network: what is trained, and what samples are like."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import iddpm
from iddpm.builders import build_network, resolve
from iddpm.builders.run_data import on_device, open_to_train, training_batches
from iddpm.config import read_config
from iddpm.data.conditioned_augmentation import augmented
from iddpm.diffusion import Prediction, cosine
from iddpm.sampling import DDIM, SampleNoise, sample
from iddpm.training.monitoring.terminal import SilentReporter
from tests.builders.settings.effect import BASE
from tests.conftest import TINY

CPU = torch.device("cpu")
PATTERNS = np.random.default_rng(0).integers(0, 256, (2, 6, 6), np.uint8)


def opened(folder, *settings, data=None):
    np.save(folder / "data.npy", np.repeat(PATTERNS, 8, axis=0) if data is None else data)
    path = f"data.path={folder / 'data.npy'}"
    assignments = [
        *TINY,
        "data.held_out=0",
        "data.layout=NHW",
        "data.identical=apart",
        path,
        *settings,
    ]
    return open_to_train(read_config(None, assignments))


def batches(config, split, steps, **options):
    made = training_batches(config, split.source, split.train, 0, CPU)
    return list(on_device([made[step] for step in range(steps)], config, CPU, **options))


def test_items_are_what_their_vectors_say_and_lie_on_levels(tmp_path):
    config, split = opened(tmp_path, "data.augment=0.3", "training.batch_size=8")
    plain = training_batches(config, split.source, split.train, 0, CPU)
    found = batches(config, split, 4, learning=True)
    for step, (x, conditioning) in enumerate(found):
        vectors, stored = conditioning["augment"], plain[step].to(CPU).x
        exact = augmented(stored, vectors)
        assert float((x - exact).abs().max()) <= 1.001 / 255
        same = ~vectors.any(dim=1)
        assert torch.equal(x[same], stored[same])
        levels = (x.double() + 1) * 127.5
        assert float((levels - levels.round()).abs().max()) < 1e-4
    vectors = torch.cat([conditioning["augment"] for _, conditioning in found])
    assert 0 < int(vectors.any(dim=1).sum()) < len(vectors)
    again = batches(config, split, 4, learning=True)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(found, again, strict=True))
    assert not torch.equal(found[0][1]["augment"], found[1][1]["augment"])


def test_held_out_items_and_distilled_models_are_not_augmented(tmp_path):
    config, split = opened(tmp_path, "data.augment=0.9")
    assert batches(config, split, 1)[0][1] == {}
    made = config.model_copy(update={"distillation": SimpleNamespace(guidance_range=None)})
    assert batches(made, split, 1, learning=True)[0][1] == {}


def test_paired_data_and_low_resolutions_are_augmented_alike(tmp_path):
    np.save(tmp_path / "given.npy", np.repeat(PATTERNS, 8, axis=0))
    given = f"data.given={tmp_path / 'given.npy'}"
    config, split = opened(tmp_path, "data.augment=0.5", given)
    for x, conditioning in batches(config, split, 3, learning=True):
        assert float((conditioning["given"] - x).abs().max()) <= 1.001 / 255
    scaled = opened(
        tmp_path, "data.augment=0.5", "task=super_resolution", "scale=2", "diffusion.residual=false"
    )
    (x, conditioning), *_ = batches(*scaled, 1, learning=True)
    assert conditioning["augment"].any()
    halved = torch.nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(conditioning["low_res"].mean(), halved.mean(), atol=0.1, rtol=0)


def exact_denoiser(x, vectors, wanted):
    """The minimizer of the squared error over these pairs of data and vectors, for one vector.

    It is the mean of the data with this vector, weighted by the likelihood of x_t; with ``wanted``
    None the vectors are not shown, and all data counts.
    """
    kept = x if wanted is None else x[(vectors == wanted).all(dim=1)]

    def denoise(x_t, level, /, **_):
        signal = level.alpha_bar.sqrt().to(x_t).reshape(-1, 1)
        variance = (1 - level.alpha_bar).to(x_t).reshape(-1, 1)
        away = (x_t.flatten(1)[:, None] - signal[..., None] * kept.flatten(1)[None]) ** 2
        weight = torch.softmax(-away.sum(2) / (2 * variance), dim=1)
        x0 = (weight @ kept.flatten(1)).reshape(x_t.shape)
        eps = (x_t - signal.reshape(-1, 1, 1, 1) * x0) / variance.sqrt().reshape(-1, 1, 1, 1)
        return Prediction(x0=x0, eps=eps)

    return denoise


def nearest(samples, patterns):
    distance, which = (samples[:, None] - patterns[None]).flatten(2).abs().amax(2).min(dim=1)
    return distance, which


def test_samples_with_the_vector_of_zeros_are_the_patterns_as_they_are(tmp_path):
    """The exact minimizer on two patterns; where vectors are hidden, augmented ones leak."""
    config, split = opened(tmp_path, "data.augment=0.5", "training.batch_size=16")
    found = batches(config, split, 30, learning=True)
    x = torch.cat([x for x, _ in found])
    vectors = torch.cat([conditioning["augment"] for _, conditioning in found])
    patterns = torch.from_numpy(PATTERNS)[:, None] / 127.5 - 1
    noise = SampleNoise(0, (100, 1, 6, 6)).initial()
    drawn = {}
    for shown in (True, False):
        denoise = exact_denoiser(x, vectors, torch.zeros(13) if shown else None)
        drawn[shown] = nearest(sample(DDIM(), denoise, cosine(40), noise), patterns)
    distance, which = drawn[True]
    assert float(distance.max()) < 0.01
    # Within five standard errors both patterns are as frequent as in the data with zeros.
    _, known = nearest(x[~vectors.any(dim=1)], patterns)
    error = (0.25 / len(which) + 0.25 / len(known)) ** 0.5
    assert float(which.float().mean()) == pytest.approx(float(known.float().mean()), abs=5 * error)
    assert float((drawn[False][0] > 0.1).float().mean()) > 0.5


def test_a_network_starts_without_the_augmentation_and_zeros_stay_without():
    config = resolve(read_config(None, [*BASE, "data.augment=0.12"]))
    network = build_network(config)
    torch.nn.init.normal_(network.out[-1].weight)
    x, t, vectors = torch.randn(2, 1, 8, 8), torch.zeros(2), torch.randn(2, 13)
    plain = network(x, t)
    assert torch.equal(network(x, t, augment=vectors), plain)
    torch.nn.init.normal_(network.augment_emb.weight)
    for parameter in network.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    plain = network(x, t)
    assert torch.equal(network(x, t, augment=torch.zeros(2, 13)), plain)
    assert not torch.equal(network(x, t, augment=vectors), plain)
    with pytest.raises(ValueError, match=r"augment of shape \[2, 13\], .* not \[2, 4\]"):
        network(x, t, augment=torch.zeros(2, 4))
    without = build_network(resolve(read_config(None, BASE)))
    with pytest.raises(ValueError, match="takes no further numbers and was called with augment"):
        without(x, t, augment=vectors)


@pytest.mark.parametrize(
    "settings",
    [("task=classification",), ("model.network=mine",)],
)
def test_networks_that_do_not_take_it_are_refused(settings):
    with pytest.raises(ValueError, match=r"data.augment=0.12 is shown to the built-in U-Net"):
        read_config(None, ["data.augment=0.12", *settings])


@pytest.mark.parametrize("more", [(), ("model.layers=magnitude_preserving",)])
def test_it_trains_samples_and_starts_runs_without_it(tmp_path, more):
    np.save(tmp_path / "data.npy", np.repeat(PATTERNS, 8, axis=0))
    settings = [*TINY, "data.layout=NHW", "training.steps=2", *more]
    with_it = [*settings, "data.augment=0.5"]
    data, quiet = tmp_path / "data.npy", SilentReporter()
    first = iddpm.train(data, settings=with_it, out=tmp_path / "a", reporter=quiet)
    assert first.sample(2, steps=2).shape == (2, 1, 6, 6)
    kept = {"settings": settings, "init_from": tmp_path / "a", "reporter": quiet}
    second = iddpm.train(data, out=tmp_path / "b", **kept)
    assert not any("augment_emb" in name for name in second.denoiser.network.state_dict())
    kept = {"settings": with_it, "init_from": tmp_path / "b", "reporter": quiet}
    third = iddpm.train(data, out=tmp_path / "c", **kept)
    assert any("augment_emb" in name for name in third.denoiser.network.state_dict())
