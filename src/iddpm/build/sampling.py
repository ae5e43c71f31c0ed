"""Samplers by name, and the steps that they visit."""

from collections.abc import Callable

from iddpm.diffusion import NoiseSchedule
from iddpm.sampling import (
    DDIM,
    DDPM,
    IPNDM,
    DPMSolverPP,
    Heun,
    Sampler,
    UniPC,
    even_timesteps,
    karras_timesteps,
    log_snr_timesteps,
)


def build_sampler(name: str, eta: float = 0.0) -> Sampler:
    """Return the sampler of that name.

    Raises:
        ValueError: no such sampler, or an ``eta`` for one that has none.
    """
    if eta and name != "ddim":
        raise ValueError(f"eta={eta:g} is an option of sampler ddim, and {name} was asked for")
    samplers: dict[str, Callable[[], Sampler]] = {
        "ddpm": DDPM,
        "ddim": lambda: DDIM(eta),
        "heun": Heun,
        "ipndm": IPNDM,
        "dpmpp_2m": lambda: DPMSolverPP(2),
        "dpmpp_3m": lambda: DPMSolverPP(3),
        "dpmpp_2m_sde": lambda: DPMSolverPP(2, stochastic=True),
        "unipc_2": lambda: UniPC(2),
        "unipc_3": lambda: UniPC(3),
    }
    if name not in samplers:
        raise ValueError(f"sampler {name!r} is unknown: use {', '.join(samplers)}")
    return samplers[name]()


def count_steps(sampler: str, evaluations: int) -> int:
    """Return how many steps so many network evaluations are; Heun's takes two but for the last."""
    return (evaluations + 1) // 2 if sampler == "heun" else evaluations


def build_sampling_schedule(
    whole: NoiseSchedule, sampler: str, evaluations: int, spacing: str = "auto"
) -> NoiseSchedule:
    """Return the steps that a sampler visits with so many network evaluations.

    Args:
        whole: the process that was trained.
        sampler: its name.
        evaluations: network evaluations per sample.
        spacing: ``"even"``, ``"log_snr"``, ``"karras"``, or ``"auto"``: even for DDPM and DDIM,
            log-SNR for the higher-order solvers, which need it at few steps.

    Raises:
        ValueError: more steps than the process has, or none; an unknown spacing.
    """
    count = count_steps(sampler, evaluations)
    if spacing == "auto":
        spacing = "even" if sampler in ("ddpm", "ddim") else "log_snr"
    if spacing == "even":
        return whole.respace(even_timesteps(len(whole), count))
    if spacing == "log_snr":
        return whole.respace(log_snr_timesteps(whole, count))
    if spacing == "karras":
        return whole.respace(karras_timesteps(whole, count))
    raise ValueError(f"spacing {spacing!r} is unknown: use auto, even, log_snr or karras")
