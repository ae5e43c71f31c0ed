"""The few-step solvers: diffusers as an oracle, and that every combination runs.

diffusers computes in float32 in places; here its module is given float64 in their stead, and its
tables ours, so that both sides compute the same numbers and agree to rounding.

Where definitions do not coincide, the comparison leaves out or corrects:

- DPM-Solver++ 3M: diffusers (as the authors' code) gives the second difference half the weight of a
  Taylor expansion, which makes it a solver of order 2 (see test_orders). Our step is held against
  theirs plus the missing half, and against the predictor of their UniPC alone, which has it whole.
- Lower orders near the data: theirs for fewer than 15 steps (``lower_order_final``), ours always.
- The last step: ours goes to the data (their ``final_sigmas_type="zero"``). Their iPNDM still
  extrapolates there, ours returns the estimate of x0, so that a clipped sample stays clipped.
- iPNDM: their class has noise levels of its own, which are replaced, and reads the network as v.
- Heun: their state is x / sqrt(alpha_bar), and ours x.
"""

import math
from itertools import product

import pytest
import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, NoiseSchedule, cosine, linear
from iddpm.sampling import DDIM, clip_x0, even_timesteps, sample, trajectory
from iddpm.sampling.dpm_solver import DPMSolverPP
from iddpm.sampling.heun import Heun
from iddpm.sampling.ipndm import IPNDM
from iddpm.sampling.spacing import karras_timesteps, log_snr_timesteps
from iddpm.sampling.unipc import UniPC
from tests.sampling.test_sampler_loop import PREDICTS, SIZES, VARIANCES, normal, tiny_denoiser

WHOLE = linear(1000, rescale_timesteps=False)
SOLVERS = {
    "heun": Heun(),
    "ipndm 1": IPNDM(1),
    "ipndm 4": IPNDM(4),
    "ipndm 4 variable": IPNDM(4, variable_step=True),
    "2m": DPMSolverPP(2),
    "3m": DPMSolverPP(3),
    "2m sde": DPMSolverPP(2, stochastic=True),
    "unipc 2": UniPC(2),
    "unipc 3": UniPC(3),
}
DETERMINISTIC = [name for name in SOLVERS if name != "2m sde"]


def network(x, shown):
    """A fixed function of state and time."""
    s = shown.to(x.dtype).reshape(-1, 1, 1, 1)
    return 0.5 * x + 0.3 * torch.sin(2 * x + s / 100)


class Torch64:
    """torch, with float64 where float32 is requested."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@pytest.fixture
def theirs(monkeypatch):
    """Make a scheduler of diffusers that computes in float64 on our tables."""
    diffusers = pytest.importorskip("diffusers")

    def make(kind, schedule, predicts="eps", **settings):
        scheduler_class = getattr(diffusers, kind)
        module = __import__(scheduler_class.__module__, fromlist=["torch"])
        monkeypatch.setattr(module, "torch", Torch64())
        if kind != "IPNDMScheduler":
            names = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
            settings["prediction_type"] = names[predicts]
        scheduler = scheduler_class(trained_betas=WHOLE.betas.numpy(), **settings)
        scheduler.set_timesteps(len(schedule))
        scheduler.timesteps = schedule.index.flip(0).clone()
        sigmas = torch.cat([(-schedule.half_log_snr).exp().flip(0), torch.zeros(1).double()])
        if kind == "HeunDiscreteScheduler":
            twice = sigmas[1:-1].repeat_interleave(2)
            sigmas = torch.cat([sigmas[:1], twice, sigmas[-1:]])
            inner = scheduler.timesteps[1:].repeat_interleave(2)
            scheduler.timesteps = torch.cat([scheduler.timesteps[:1], inner])
        scheduler.sigmas = sigmas
        scheduler.set_begin_index(0)
        return scheduler

    return make


def model_of(schedule, predicts="eps"):
    return Denoiser(network, GaussianDiffusion(schedule, "fixed_small"), predicts)


def walk_theirs(scheduler, schedule, x, noises=None):
    """Their states after every step, from the noisiest down."""
    for number, i in enumerate(reversed(range(len(schedule)))):
        extra = {} if noises is None else {"variance_noise": noises[number]}
        output = network(x, schedule.shown[i].expand(len(x)))
        x = scheduler.step(output, scheduler.timesteps[number], x, **extra).prev_sample
        yield x


def start(seed=0, shape=(2, 3, 4, 4)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def worst(ours, theirs):
    """Largest relative difference over a trajectory."""
    pairs = list(zip(ours, theirs, strict=True))
    assert all(b.dtype == torch.float64 for _, b in pairs)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def spaced(count):
    """Uneven steps: even ones in time are far from even in log-SNR."""
    return WHOLE.respace(even_timesteps(1000, count))


@pytest.mark.parametrize("count", [3, 10, 20])
@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
@pytest.mark.parametrize(
    ("kind", "sampler", "settings"),
    [
        ("DPMSolverMultistepScheduler", DPMSolverPP(2), {"solver_order": 2}),
        ("UniPCMultistepScheduler", UniPC(2), {"solver_order": 2}),
        ("UniPCMultistepScheduler", UniPC(3), {"solver_order": 3}),
        (
            "UniPCMultistepScheduler",
            DPMSolverPP(3),
            {"solver_order": 3, "disable_corrector": list(range(20))},
        ),
    ],
    ids=["2m", "unipc 2", "unipc 3", "3m as predictor"],
)
def test_multistep_solvers_agree_with_diffusers(theirs, kind, sampler, settings, predicts, count):
    schedule, x = spaced(count), start()
    scheduler = theirs(kind, schedule, predicts, final_sigmas_type="zero", **settings)
    ours = [state.x for state in trajectory(sampler, model_of(schedule, predicts), schedule, x)]
    assert worst(ours, walk_theirs(scheduler, schedule, x)) < 1e-9


def test_the_sde_solver_agrees_with_diffusers(theirs):
    schedule, x = spaced(12), start()
    noises = [start(seed) for seed in range(1, 13)]
    scheduler = theirs(
        "DPMSolverMultistepScheduler",
        schedule,
        solver_order=2,
        algorithm_type="sde-dpmsolver++",
        final_sigmas_type="zero",
    )
    sampler = DPMSolverPP(2, stochastic=True)
    states = trajectory(sampler, model_of(schedule), schedule, x, noise=noises.__getitem__)
    ours = [state.x for state in states]
    assert worst(ours, walk_theirs(scheduler, schedule, x, noises)) < 1e-9


def test_3m_is_that_of_diffusers_with_the_second_difference_whole(theirs):
    schedule, x = spaced(10), start()
    scheduler = theirs(
        "DPMSolverMultistepScheduler", schedule, solver_order=3, final_sigmas_type="zero"
    )
    denoise, sampler, memory = model_of(schedule), DPMSolverPP(3), None
    lam = schedule.half_log_snr.tolist()
    for i, expected in zip(range(9, -1, -1), walk_theirs(scheduler, schedule, x), strict=True):
        step = sampler.step(denoise, x, i, schedule, None, memory)
        missing = torch.zeros_like(x)
        if 2 <= i <= 7:
            m0, m1, m2 = step.memory
            slopes = (m0 - m1) / (lam[i] - lam[i + 1]), (m1 - m2) / (lam[i + 1] - lam[i + 2])
            second = (slopes[0] - slopes[1]) / (lam[i] - lam[i + 2])  # half the second derivative
            h = lam[i - 1] - lam[i]
            signal = math.sqrt(schedule.alpha_bar[i - 1])
            missing = signal * (h**2 / 2 - h - math.expm1(-h)) * second
            assert float(missing.abs().max()) > 1e-4
        assert torch.allclose(step.x, expected + missing, rtol=1e-9, atol=1e-10), i
        x, memory = expected, step.memory  # from the same state again


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_heun_agrees_with_diffusers(theirs, predicts):
    schedule, x = spaced(10), start()
    scheduler = theirs("HeunDiscreteScheduler", schedule, predicts)
    ours = [state.x for state in trajectory(Heun(), model_of(schedule, predicts), schedule, x)]
    y, calls = x / schedule.alpha_bar[-1].sqrt(), 0
    for number, i in enumerate(range(9, -1, -1)):
        for level in (i, i - 1)[: 1 if i == 0 else 2]:
            at = y * schedule.alpha_bar[level].sqrt()
            output = network(at, schedule.shown[level].expand(len(x)))
            y = scheduler.step(output, scheduler.timesteps[calls], y).prev_sample
            calls += 1
        signal = schedule.alpha_bar_prev[i].sqrt()
        assert torch.allclose(ours[number], signal * y, rtol=1e-9, atol=1e-9), i
    assert calls == 19


def test_ipndm_agrees_with_diffusers_on_their_weights(theirs):
    """On any grid: the weights are those of equal steps in both."""
    schedule, x = spaced(12), start()
    scheduler = theirs("IPNDMScheduler", schedule, "v")
    scheduler.betas = torch.cat([(1 - schedule.alpha_bar).sqrt().flip(0), torch.zeros(1).double()])
    scheduler.alphas = (1 - scheduler.betas**2).sqrt()
    ours = [state.x for state in trajectory(IPNDM(4), model_of(schedule, "v"), schedule, x)]
    expected = list(walk_theirs(scheduler, schedule, x))
    assert worst(ours[:-1], expected[:-1]) < 1e-9
    assert not torch.allclose(ours[-1], expected[-1], atol=1e-5)  # see above


# ----------------------------------------------------------------------------- every combination


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dims", SIZES)
def test_every_combination_samples(name, dims):
    schedule = linear(1000).respace(log_snr_timesteps(linear(1000), 6))
    x_T = normal(-1, torch.empty(2, 3, *SIZES[dims]))
    for variance, predicts in product(VARIANCES, PREDICTS):
        case = variance, predicts
        denoise = clip_x0(tiny_denoiser(schedule, variance, predicts))
        states = list(
            trajectory(SOLVERS[name], denoise, schedule, x_T, noise=lambda k: normal(k, x_T))
        )
        assert [state.index for state in states] == [5, 4, 3, 2, 1, 0], case
        assert all(state.x.shape == state.x0.shape == x_T.shape for state in states), case
        assert all(state.x0.abs().max() <= 1 for state in states), case
        assert states[-1].x.dtype == torch.float32, case
        assert bool(states[-1].x.isfinite().all()), case
        # The last step returns the estimate of x0, clipped as that is.
        assert torch.allclose(states[-1].x, states[-1].x0, atol=1e-6), case


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_odes_draw_no_noise_and_ignore_the_variance(name):
    schedule = linear(1000).respace(karras_timesteps(linear(1000), 8))
    x_T = normal(-1, torch.empty(2, 3, 7))

    def forbidden(number):
        raise AssertionError("a deterministic sampler drew noise")

    results = [
        sample(SOLVERS[name], tiny_denoiser(schedule, v, "eps"), schedule, x_T, noise=forbidden)
        for v in VARIANCES
    ]
    assert all(torch.equal(results[0], result) for result in results[1:])


def test_the_sde_draws_once_a_step_but_for_the_last():
    schedule, x_T, numbers = spaced(6), start(), []

    def noise(number):
        numbers.append(number)
        return start(number)

    sample(SOLVERS["2m sde"], model_of(schedule), schedule, x_T, noise=noise)
    assert numbers == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_few_steps_work_and_evaluations_are_counted(name, count):
    schedule, calls = spaced(count), []

    def denoise(x_t, level):
        calls.append(float(level.shown[0]))
        return model_of(schedule)(x_t, level)

    x = sample(SOLVERS[name], denoise, schedule, start(), noise=lambda k: start(k))
    assert bool(x.isfinite().all())
    assert len(calls) == (2 * count - 1 if name == "heun" else count)
    if count == 1:
        assert torch.equal(x, sample(DDIM(), model_of(schedule), schedule, start()))


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_may_start_anywhere_and_holds_no_state(name):
    """From a state in the middle, sampling goes on as by the lower half of the schedule."""
    schedule, x = spaced(8), start()
    lower = schedule.respace(range(5))
    denoise, sampler = model_of(schedule), SOLVERS[name]
    state, memory = x, None
    for i in reversed(range(5)):
        state, _, memory = sampler.step(denoise, state, i, schedule, lambda i=i: start(i), memory)
    expected = sample(sampler, denoise, lower, x, noise=lambda k: start(4 - k))
    assert torch.equal(state, expected)
    assert torch.equal(sample(sampler, denoise, lower, x, noise=lambda k: start(4 - k)), expected)


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "heun"])
@pytest.mark.parametrize("make", [linear, cosine])
def test_float32_stays_near_float64(name, make):
    """Coefficients are float64; what is left is the rounding of the states.

    Heun is left out: from the noisiest step of the cosine schedule, where sigma is 2e4, its second
    evaluation multiplies rounding and truncation alike.
    """
    whole = make(1000)
    schedule, x = whole.respace(karras_timesteps(whole, 12)), start()
    denoise = clip_x0(model_of(schedule, "v"))
    results = [
        sample(SOLVERS[name], denoise, schedule, x.to(kind), noise=lambda k, d=kind: start(k).to(d))
        for kind in (torch.float32, torch.float64)
    ]
    assert float((results[0] - results[1]).abs().max()) < 1e-3


def test_a_schedule_may_end_at_interior_levels():
    """Any strictly falling alpha_bar will do; the times shown need not be whole."""
    alpha_bar = torch.tensor([0.9, 0.5, 0.2, 0.05], dtype=torch.float64)
    schedule = NoiseSchedule(alpha_bar, torch.arange(4), torch.tensor([0.5, 1.5, 2.5, 3.25]))
    for sampler in SOLVERS.values():
        x = sample(sampler, model_of(schedule), schedule, start(), noise=lambda k: start(k))
        assert bool(x.isfinite().all())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: IPNDM(5), "order=5 must be 1, 2, 3 or 4"),
        (lambda: IPNDM(0), "order=0"),
        (lambda: DPMSolverPP(1), "order=1 must be 2 or 3"),
        (lambda: DPMSolverPP(3, stochastic=True), "order=3 must be 2 for the SDE"),
        (lambda: UniPC(4), "order=4 must be 2 or 3"),
    ],
)
def test_orders_that_do_not_exist_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()
