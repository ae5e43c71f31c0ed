"""Checks that the settings of a distilled run fit its network and its training."""

from iddpm.config.choices import BLIND_AT_PURE_NOISE, DISTILLATIONS, listed
from iddpm.config.diffusion import DiffusionConfig
from iddpm.config.distillation import BFLOAT16_DIVISOR, DistillationConfig
from iddpm.config.training import TrainingConfig


def check_distilled(
    made: DistillationConfig,
    diffusion: DiffusionConfig,
    training: TrainingConfig,
    own_network: str | None,
) -> None:
    """Raise ValueError unless a model with these settings can be distilled."""
    if diffusion.predicts in BLIND_AT_PURE_NOISE:
        raise ValueError(
            f"a model that predicts {diffusion.predicts} magnifies the network's error by "
            f"sigma, {made.sigma_max:g} where sampling starts, and cannot be distilled: train "
            "a teacher that predicts v or edm, such as with iddpm train --init-from "
            f"{made.teacher} -s diffusion.predicts=v"
        )
    if diffusion.has_levels:
        raise ValueError(
            "a model with a probability for each level of the data (diffusion.predicts="
            f"{diffusion.predicts}, decoder={diffusion.decoder}) cannot be distilled: train a "
            "teacher with predicts=v and decoder=gaussian"
        )
    if training.optimizer != "adamw":
        raise ValueError(
            f"training.optimizer={training.optimizer} is not for distillation, which always takes "
            "RAdam: leave it out"
        )
    _check_precision(made, training.precision)
    if made.stages > 1 and training.spike_guard:
        raise ValueError(
            f"training.spike_guard={training.spike_guard:g} compares the loss with its recent "
            f"values, and with distillation.stages={made.stages} the loss jumps: leave one of "
            "them out"
        )
    if made.numbers and own_network is not None:
        raise ValueError(
            f"this distillation conditions the network on its {listed(made.numbers)}, which your "
            f"own network {own_network} does not take: use one scale of guidance, and a method "
            "without further numbers"
        )


def _check_precision(made: DistillationConfig, precision: str) -> None:
    """Raise ValueError if the precision does not resolve what a method compares."""
    row = DISTILLATIONS[made.method]
    if precision == "float32":
        return
    if row.differences:
        raise ValueError(
            f"distillation.method={made.method} takes derivatives by small differences, of which "
            f"training.precision={precision} may see only its rounding: use float32"
        )
    if "divisor" in row.settings and made.largest_divisor > BFLOAT16_DIVISOR:
        stages = "" if made.stages == 1 else f" with stages={made.stages}"
        raise ValueError(
            f"distillation.divisor={made.divisor:g}{stages} compares noise levels so close that "
            f"training.precision={precision} may see only its rounding: use float32, or a "
            f"divisor of at most {BFLOAT16_DIVISOR}"
        )
