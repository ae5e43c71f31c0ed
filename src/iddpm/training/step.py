"""One training step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.diffusion import Denoiser
from iddpm.diffusion.losses import LossTerms
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.runtime.seeds import normal, stream, torch_seed
from iddpm.training.classification import NoisyClassifier
from iddpm.training.ema import EMA
from iddpm.training.noise_assignment import NearestNoise
from iddpm.training.out_of_memory import out_of_memory, ran_out_of_memory
from iddpm.training.parallel import Sharing, alone, whole
from iddpm.training.precision import Precision
from iddpm.training.spikes import SpikeGuard
from iddpm.training.timesteps import TimestepSampler

SELF_CONDITION_SHARE = 0.5
"""Share of the steps in which a network is conditioned on its own estimate (Chen et al. 2022)."""

Loss = Callable[..., LossTerms]
"""A loss of :mod:`iddpm.diffusion.losses` with its options filled in."""


@dataclass(frozen=True)
class ScheduledLoss:
    """A loss whose options change during training: ``at`` returns that of a step."""

    at: Callable[[int], Loss]


@dataclass(frozen=True, eq=False)
class StepResult:
    """The result of a step on all ranks, on the CPU, for the N items of the global batch."""

    t: Tensor
    """[N], the timesteps."""
    loss: Tensor
    """[N], unweighted losses."""
    mse: Tensor | None
    vb: Tensor | None
    gradient_norm: float
    """Length of the gradient before clipping."""
    skipped: bool
    """Whether the weights were not updated: something was not finite, or a spike."""
    bad: bool
    """Whether something was not finite beyond float16's search for its loss scale."""
    spike: bool = False
    """Whether the spike guard left the step out."""


@dataclass(eq=False)
class TrainStep:
    """The training step, a function of (batch, step number): all randomness follows from the seed.

    Attributes:
        denoiser: the trained network and its process, or a classifier.
        network: that network without wrappers such as torch.compile's; the averages follow it.
            Where a module of it has a method ``normalize_weights``, that is called after every
            update.
        loss: the loss.
        timesteps: the distribution of the timesteps.
        optimizer: its parameters are the network's.
        emas: averages to update.
        precision: the precision of the network.
        seed: of noise, timesteps and dropout.
        gradient_clip: largest norm of the gradient, None for any.
        microbatch: items per backward pass of a rank; None for all at once.
        ranks: the processes that share the batch; each receives its own rows.
        sharing: averages their gradients.
        rehearse: do the last backward pass of the first step twice. DDP arranges gradients in the
            first pass of a process, and the order of the sums over the ranks depends on this
            arrangement: without it, a resumed run of three or more ranks would differ in last bits.
        halve: if memory runs out, halve the microbatch, repeat the step and keep the new size; only
            for one process.
        guard: skips steps with spikes.
        assignment: exchanges noise within the rows of a rank.

    >>> from iddpm import GaussianDiffusion, UNet, UniformTimesteps, cosine, simple
    >>> network = UNet(
    ...     dims=1, in_channels=1, out_channels=1, model_channels=8, num_res_blocks=1,
    ...     channel_mult=(1,),
    ... )
    >>> denoiser = Denoiser(network, GaussianDiffusion(cosine(100), "fixed_small"))
    >>> optimizer, emas = torch.optim.AdamW(network.parameters()), [EMA(network, 0.99)]
    >>> precision = Precision("float32", torch.device("cpu"))
    >>> step = TrainStep(
    ...     denoiser, network, simple, UniformTimesteps(100), optimizer, emas, precision
    ... )
    >>> result = step(torch.zeros(4, 1, 16), 0)
    >>> result.loss.shape, result.skipped
    (torch.Size([4]), False)
    """

    denoiser: Denoiser | NoisyClassifier
    network: nn.Module
    loss: Loss | ScheduledLoss
    timesteps: TimestepSampler
    optimizer: torch.optim.Optimizer
    emas: list[EMA]
    precision: Precision
    seed: int = 0
    gradient_clip: float | None = 1.0
    microbatch: int | None = None
    ranks: Ranks = ALONE
    sharing: Sharing = alone
    rehearse: bool = False
    halve: bool = False
    guard: SpikeGuard | None = None
    assignment: NearestNoise | None = None

    def __post_init__(self) -> None:
        """Collect the parameters once."""
        groups = self.optimizer.param_groups
        self._parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        found = (getattr(module, "normalize_weights", None) for module in self.network.modules())
        self._normalize: list[Callable[[], None]] = [call for call in found if callable(call)]

    def loss_of(self, step: int) -> Loss:
        """Return the loss of a step."""
        return self.loss.at(step) if isinstance(self.loss, ScheduledLoss) else self.loss

    def __call__(self, x0: Tensor, step: int, **conditioning: Any) -> StepResult:
        """Train on a batch.

        Args:
            x0: data in [-1, 1] on the device, [n, C, *spatial]; this rank's rows of the batch.
            step: number of the step.
            conditioning: tensors [n, ...] for the network, such as class labels ``y``.

        Raises:
            OutOfMemory: the device has too little memory; nothing was changed.
        """
        count = len(x0)
        own = self.ranks.share(count * self.ranks.count)
        uniform = stream(self.seed, "timestep", step=step).random(count * self.ranks.count)
        everyones_t, everyones_weights = self.timesteps.sample(uniform)
        t, weights = everyones_t[own], everyones_weights[own].to(x0.device)
        noise, independent = self._noise(x0, step, own)
        options = {}
        if isinstance(self.denoiser, Denoiser) and self.denoiser.self_condition:
            coin = stream(self.seed, "self-condition", step=step).random()
            options["own_estimate"] = coin < SELF_CONDITION_SHARE

        loss = self.loss_of(step)

        def backward(start: int, size: int) -> LossTerms:
            rows = slice(start, start + size)
            index = own.start + start
            torch.manual_seed(torch_seed(self.seed, "dropout", step=step, index=index))
            with self.sharing(start + size >= count):
                with self.precision.autocast():
                    terms = loss(
                        self.denoiser,
                        x0[rows],
                        t[rows],
                        noise[rows],
                        **options,
                        **{name: value[rows] for name, value in conditioning.items()},
                    )
                if self.assignment is not None:
                    terms = self.assignment.counted(terms, independent[rows])
                # Divided by all of the rank's items: microbatches then sum to their mean, and the
                # ranks' gradients are averaged.
                mean = (terms.loss * weights[rows]).sum() / count
                scaler.scale(mean).backward()
            return LossTerms(*(None if v is None else v.detach() for v in terms))  # type: ignore[arg-type]

        scaler = self.precision.scaler
        buffers = [buffer.clone() for buffer in self.network.buffers()]
        parts = self._within_memory(backward, count, buffers)
        scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, self.gradient_clip or math.inf)
        losses, mse, vb = self._joined(parts)
        gradient_norm = float(whole(norm))
        finite_loss = bool(losses.isfinite().all())
        finite = finite_loss and math.isfinite(gradient_norm)
        spike = False
        if finite and self.guard is not None:
            spike = self.guard.judge(float((losses * everyones_weights).mean()), gradient_norm)
        if finite and not spike:
            scaler.step(self.optimizer)
            for normalize in self._normalize:
                normalize()
            for ema in self.emas:
                ema.update(self.network)
            self.timesteps.update(everyones_t, losses)
        scaler.update()
        searching = finite_loss and scaler.is_enabled() and scaler.get_scale() > 1
        bad = not finite and not searching
        skipped = spike or not finite
        if skipped:
            self._restore(buffers)
        return StepResult(everyones_t, losses, mse, vb, gradient_norm, skipped, bad, spike)

    def _noise(self, x0: Tensor, step: int, own: slice) -> tuple[Tensor, Tensor]:
        """Return the noise of this rank's items, and which of them have noise of their own."""
        drawn = normal(self.seed, "noise", x0.shape, step=step, start=own.start)
        noise = torch.from_numpy(drawn).to(x0.device)
        if self.assignment is None:
            return noise, torch.ones(len(x0), dtype=torch.bool)
        count = len(x0) * self.ranks.count
        independent = self.assignment.independent(self.seed, step, count)[own]
        return self.assignment.assigned(x0, noise, independent), independent

    def _restore(self, buffers: list[Tensor]) -> None:
        """Set the buffers of an own network, such as running statistics, to earlier values."""
        for buffer, value in zip(self.network.buffers(), buffers, strict=True):
            buffer.copy_(value)

    def _within_memory(
        self, backward: Callable[[int, int], LossTerms], count: int, buffers: list[Tensor]
    ) -> list[LossTerms]:
        """Do the backward passes of a step, ``backward(start, size)`` for every ``size`` items.

        Only gradients and buffers change, so it can be repeated with less memory from the
        ``buffers`` before: items have the same noise again. Dropout is drawn for each microbatch
        from the number of its first item, and therefore changes with its size.
        """
        while True:
            size = min(self.microbatch or count, count)
            starts = range(0, count, size)
            try:
                if self.rehearse:
                    self.rehearse = False
                    backward(starts[-1], size)
                    self._restore(buffers)
                self.optimizer.zero_grad(set_to_none=True)
                return [backward(start, size) for start in starts]
            except RuntimeError as error:
                if not ran_out_of_memory(error):
                    raise
                self._restore(buffers)
                if not self.halve or size == 1:
                    raise out_of_memory(size) from None
            # Here, where the error no longer keeps the tensors that filled the memory.
            self.microbatch = (size + 1) // 2
            self.optimizer.zero_grad(set_to_none=True)
            if self.precision.device.type == "cuda":
                torch.cuda.empty_cache()

    def _joined(self, parts: list[LossTerms]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the loss terms of all microbatches of all ranks, on the CPU."""
        columns = [None if v[0] is None else torch.cat(v).float() for v in zip(*parts, strict=True)]
        known = torch.stack([column for column in columns if column is not None], dim=1)
        rows = iter(self.ranks.joined(known).unbind(1))
        loss, mse, vb = (None if column is None else next(rows) for column in columns)
        assert loss is not None
        return loss, mse, vb
