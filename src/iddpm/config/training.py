"""The training's settings."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from iddpm.config.choices import OPTIMIZERS, TIMESTEP_SAMPLERS, OneOf
from iddpm.config.section import Few, Positive, Section, Whole

Rate = Annotated[float, Field(ge=0, lt=1)]
Rates = Annotated[tuple[Rate, ...], Field(min_length=1, max_length=100)]
Share = Annotated[float, Field(gt=0, lt=0.288)]
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


Anneal = Literal["none", "linear", "inverse_sqrt"]


class PosthocEMA(Section):
    """Power-function averages, from which averages of any other length are computed later."""

    lengths: Annotated[tuple[Share, ...], Field(min_length=1, max_length=100)] = (0.05, 0.1)
    """Standard deviations as shares of the training (sigma_rel of Karras et al. 2024)."""
    every: Positive | None = None
    """Steps between snapshots; by default a twentieth of the run."""


class TrainingConfig(Section):
    """How the weights are trained, and what is written during training."""

    steps: Positive | None = None
    """Number of optimizer steps of the whole run; by default 20,000."""
    epochs: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Length in epochs instead; overrides ``steps``."""
    max_time: Annotated[float, Field(gt=0, le=1e10)] | None = None
    """Train for this many seconds; also written as 90s, 30m, 2h, 1d. The number of steps is planned
    from the measured pace, so that the learning rate reaches 0 at the end (``anneal``)."""
    batch_size: Annotated[Whole, Field(gt=0, le=10**7)] | None = None
    """Items per step, over all processes; by default 64, fewer for large items, or all items of a
    smaller data set."""
    microbatch: Annotated[Whole, Field(gt=0, le=10**7)] | None = None
    """Items per forward and backward pass of a process; fewer need less memory for the same
    gradient. By default reduced if memory is short."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Under torchrun: a whole network in every process (ddp), or a shard of each tensor (fsdp)."""
    timeout: Annotated[float, Field(gt=0, le=1e6)] = 600.0
    """Seconds after which a process that does not answer counts as lost."""
    optimizer: Annotated[str, OneOf(OPTIMIZERS)] = "adamw"
    """adamw, or muon: orthogonalized momentum for the matrices and convolutions inside the network,
    AdamW for the rest. Distillation always takes RAdam."""
    learning_rate: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Of the optimizer; by default 1e-3 in short trainings of small networks, otherwise 1e-4 as
    published for AdamW."""
    weight_decay: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Of the optimizer; 0 as published for AdamW."""
    betas: tuple[Rate, Rate] = (0.9, 0.999)
    """Rates of the averages of AdamW: of the gradient and of its square."""
    warmup_steps: Annotated[Whole, Field(ge=0, le=10**12)] | None = None
    """The learning rate rises linearly over these steps; by default 100 in short trainings of small
    networks, at most a tenth of the run, and otherwise 0."""
    anneal: Anneal | None = None
    """Decrease the learning rate: linearly to 0 over the run, by default with ``max_time`` and in
    short trainings of small networks; or after the first tenth of ``steps`` as 1 / sqrt(step)
    (EDM2, Karras et al. 2024)."""
    label_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the labels that is hidden from a class-conditional network; guidance needs some."""
    clean_share: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of a classifier's items that have the lowest noise level; the others have a random
    one."""
    pure_noise_share: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the items that have the noisiest timestep; the others have a random one. By default
    an eighth for diffusion.residual, otherwise 0."""
    gradient_clip: Annotated[float, Field(gt=0, le=1e30)] | None = 1.0
    """Largest gradient norm; larger gradients are scaled down. None never clips."""
    ema_rates: Rates | None = None
    """Rates of the moving averages of the weights; the first is used by default. By default 0.99,
    0.999 or 0.9999, longer for more steps."""
    ema_warmup: bool = True
    """Average over fewer steps early in the run."""
    posthoc_ema: PosthocEMA | None = None
    """Also keep snapshots of power-function averages: true, or their settings."""
    timestep_sampler: Annotated[str, OneOf(TIMESTEP_SAMPLERS)] = "uniform"
    """uniform, low_discrepancy (spreads each batch evenly over the timesteps), loss_second_moment
    (for loss=vlb) or log_normal (for loss.weighting=log_normal)."""
    noise_assignment: Literal["none", "nearest"] = "none"
    """nearest: exchange noise between the items of a batch so that it is near the data (Li et al.
    2024), for the squared error alone; needs scipy."""
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    """``auto`` uses bf16 on devices on which it is faster, measured on CPUs, otherwise float32."""
    kernels: Literal["plain", "fast"] | None = None
    """Kernels of the network on CPUs: PyTorch's (plain), or faster ones where there are some, which
    round differently (fast). By default fast; null in an older run, and sharded parameters
    (``parallel=fsdp``), mean plain."""
    compile: bool = False
    """Compile the network with torch.compile; it pays off after minutes."""
    device: str = "auto"
    """cpu, cuda, cuda:1 or mps; auto takes a GPU if there is one."""
    threads: Few | None = None
    """CPU threads; by default PyTorch's choice."""
    seed: Annotated[Whole, Field(ge=-(2**63), lt=2**64)] = 0
    """Of the initial weights, the order of the items, the timesteps and the noise."""
    log_every: Positive = 50
    """Steps between records of the log."""
    save_every: Positive = 1000
    """Steps between checkpoints."""
    save_minutes: Annotated[float, Field(gt=0, le=1e7)] | None = 10.0
    """Minutes after which a checkpoint is saved in any case."""
    keep_checkpoints: Positive = 3
    """Number of newest checkpoints to keep, in addition to the one with the lowest held-out
    loss."""
    preview_every: Annotated[Whole, Field(ge=0, le=10**12)] | None = None
    """Steps between sample grids; 0 for none; by default 1000, and fewer in short trainings."""
    validate_every: Annotated[Whole, Field(ge=0, le=10**12)] | None = None
    """Steps between measurements of the held-out loss; 0 for none; by default as
    ``preview_every``."""
    max_bad_steps: Positive = 10
    """Stop after this many steps in a row with a loss or gradient that is not finite."""
    spike_guard: Annotated[float, Field(gt=1, le=1e30)] | None = None
    """Skip steps whose loss or gradient norm is this many times its running median; such as 10."""
    on_out_of_memory: Literal["stop", "halve"] = "stop"
    """stop, or halve: halve the microbatch, repeat the step, and keep the smaller one until the
    process ends."""
    tensorboard: bool = False
    """Also write event files for TensorBoard."""
    wandb: Annotated[str, Field(min_length=1)] | None = None
    """A Weights & Biases project to log to."""

    def check_noise(self, task: str, loss: str, distilled: bool) -> None:
        """Raise ValueError if noise is assigned and there is no squared error to train with it."""
        if self.noise_assignment == "none":
            return
        instead = f"task={task}" if task == "classification" else f"diffusion.loss={loss}"
        if distilled:
            instead = "a distilled model"
        elif task != "classification" and loss in ("simple", "hybrid"):
            return
        raise ValueError(
            f"training.noise_assignment={self.noise_assignment} changes the squared error of "
            f"loss=simple and hybrid, and {instead} has none: use noise_assignment=none"
        )

    @field_validator("posthoc_ema", mode="before")
    @classmethod
    def _switched(cls, value: Any) -> Any:
        """Take ``true`` for the default settings and ``false`` for none."""
        return ({} if value else None) if isinstance(value, bool) else value

    @field_validator("max_time", mode="before")
    @classmethod
    def _duration(cls, value: Any) -> Any:
        """Read 90s, 30m, 1h30m or 1d as seconds."""
        if not isinstance(value, str):
            return value
        parts = re.findall(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([dhms])", value)
        units = [unit for _, unit in parts]
        whole = "".join(map("".join, parts)) == "".join(value.split())
        if parts and whole and units == [unit for unit in "dhms" if unit in units]:
            return sum(float(number) * _UNITS[unit] for number, unit in parts)
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"{value!r} is no duration: give 90s, 30m, 1h30m or 2d") from None
