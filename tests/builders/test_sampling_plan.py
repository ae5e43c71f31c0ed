"""Which sampler and which timesteps: by name, and by the number of steps."""

import math

import pytest
import torch

from iddpm.builders.sampling_plan import Method, build_sampling_schedule, choose_method
from iddpm.config import SamplingConfig
from iddpm.config.choices import AUTOMATIC, SAMPLERS, SPACINGS, AutomaticChoice
from iddpm.diffusion import cosine


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    ("steps", "method"),
    [
        (1, ("ddim", "even")),
        (2, ("ipndm", "karras")),
        (4, ("ipndm", "karras")),
        (5, ("dpmpp_2m_sde", "karras")),
        (1000, ("dpmpp_2m_sde", "karras")),
    ],
)
def test_the_number_of_steps_chooses(steps, method, dims):
    assert choose_method(SamplingConfig(steps=steps), dims) == method


def test_the_kind_of_data_chooses_and_a_row_may_name_its_spacing(monkeypatch):
    rows = (AutomaticChoice(8, "er_sde", "log_snr"), AutomaticChoice(math.inf, "ddpm"))
    monkeypatch.setitem(AUTOMATIC, 1, rows)
    assert choose_method(SamplingConfig(steps=8), 1) == ("er_sde", "log_snr")
    assert choose_method(SamplingConfig(steps=8, spacing="karras"), 1) == ("er_sde", "karras")
    assert choose_method(SamplingConfig(steps=9), 1) == ("ddpm", "even")
    assert choose_method(SamplingConfig(steps=8), 2) == ("dpmpp_2m_sde", "karras")


def test_every_automatic_choice_serves_all_numbers_of_evaluations_and_exists():
    for rows in AUTOMATIC.values():
        counts = [row.evaluations for row in rows]
        assert counts == sorted(set(counts))
        assert counts[-1] == math.inf
        assert {row.sampler for row in rows} <= set(SAMPLERS)
        assert {row.spacing for row in rows} <= {"auto", *SPACINGS}


def test_what_is_named_is_taken():
    assert choose_method(SamplingConfig(steps=10, sampler="dpmpp_3m"), 2) == ("dpmpp_3m", "log_snr")
    assert choose_method(SamplingConfig(steps=4, spacing="even"), 2) == ("ipndm", "even")
    assert choose_method(SamplingConfig(steps=10, sampler="ddpm"), 2) == ("ddpm", "even")
    assert choose_method(SamplingConfig(steps=10, eta=0.5), 2) == ("ddim", "even")
    assert choose_method(SamplingConfig(steps=10, variance="analytic"), 2) == ("ddim", "even")
    assert choose_method(SamplingConfig(steps=20, sampler="unipc_3", spacing="optimal"), 2) == (
        "unipc_3",
        "optimal",
    )


def test_spacing_chooses_the_timesteps():
    whole = cosine(1000)
    kept = {
        spacing: build_sampling_schedule(whole, Method("ddim", spacing), 5).index.tolist()
        for spacing in ("even", "log_snr", "karras", "ddim", "2,3", "ddim5")
    }
    assert kept["even"] == [0, 250, 500, 749, 999]
    assert kept["ddim"] == kept["ddim5"] == [0, 200, 400, 600, 800]
    assert kept["2,3"] == [0, 499, 500, 750, 999]
    assert len({tuple(steps) for steps in kept.values()}) == 5


def test_steps_are_network_evaluations():
    whole = cosine(1000)
    for evaluations, steps in ((1, 1), (2, 1), (3, 2), (9, 5)):
        assert len(build_sampling_schedule(whole, Method("heun", "even"), evaluations)) == steps
    with pytest.raises(ValueError, match=r"has 5 steps, and steps=5 .* use steps=9"):
        build_sampling_schedule(whole, Method("heun", "ddim5"), 5)
    assert torch.equal(
        build_sampling_schedule(whole, Method("heun", "ddim5"), 9).alpha_bar,
        whole.respace(range(0, 1000, 200)).alpha_bar,
    )


def test_the_sde_takes_shorter_steps_from_a_lower_start():
    whole = cosine(1000)

    def levels(name, **options):
        return build_sampling_schedule(whole, Method(name, "karras"), 10, **options).half_log_snr

    ode, sde = levels("ipndm"), levels("dpmpp_2m_sde")
    assert float((-ode[-1]).exp()) == pytest.approx(80, rel=1e-3)
    assert float((-sde[-1]).exp()) == pytest.approx(30, rel=1e-3)
    assert float(sde[-2] - sde[-1]) < float(ode[-2] - ode[-1])
    assert torch.equal(levels("ipndm", sigma_max=30.0, rho=3.0), sde)
    assert torch.equal(levels("dpmpp_2m_sde", sigma_max=80.0, rho=7.0), ode)
    low = build_sampling_schedule(whole, Method("unipc_3", "log_snr"), 10, sigma_max=5.0)
    assert float((-low.half_log_snr[-1]).exp()) == pytest.approx(5, rel=1e-3)
