"""Which bound on the likelihood is measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from iddpm.diffusion import NoiseSchedule
from iddpm.diffusion.prediction import VarianceKind
from iddpm.evaluation.bound_terms import Process, process
from iddpm.evaluation.continuous_bound import continuous_process
from iddpm.evaluation.flow_likelihood import flow_of
from iddpm.evaluation.step_costs import StepTable
from iddpm.runs.run import Run
from iddpm.runtime.processes import Ranks
from iddpm.sampling import even_timesteps

Method = Literal["steps", "continuous", "ode"]
Stride = Literal["even", "optimal"]
FewSteps = Literal["importance", "stratified"]
FLOW_STEPS = 100
"""Of Heun's method, two evaluations each."""


@dataclass(frozen=True, eq=False)
class Bound:
    """Which bound is measured, checked.

    Attributes:
        method: ``"steps"``, ``"continuous"`` or ``"ode"``.
        whole: the process that was trained, of T steps.
        own: the process of a method other than steps.
        even: K of the steps, evenly; all places of a process of the method's own.
        stride: ``"even"`` or ``"optimal"``.
        variance: of the reverse process.
        looks: network evaluations for an item.
        few_steps: how the steps of those are drawn.
        probes: random vectors for a divergence of the ODE.
        tolerance: for an item's value by the ODE, in bits per dimension; None for no such.
    """

    method: str
    whole: NoiseSchedule
    own: Process | None
    even: list[int]
    stride: str
    variance: VarianceKind
    looks: int
    few_steps: str
    probes: int = 1
    tolerance: float | None = None

    def to_tolerance(self, tolerance: float | None, bits: int | None) -> "Bound":
        """Return the same with a tolerance for the error that the steps of the ODE leave.

        Args:
            tolerance: in the unit of the result; None for none.
            bits: the data's, None for a result in nats.

        Raises:
            ValueError: a tolerance that is not above 0, or of another method.
        """
        if tolerance is None:
            return self
        if self.method != "ode":
            raise ValueError(
                f"method={self.method} has no tolerance, and tolerance={tolerance:g} is set: leave "
                "it out, or use method=ode"
            )
        if not 0 < tolerance < math.inf:
            raise ValueError(f"tolerance={tolerance:g} must be above 0, such as 0.01")
        unit = 1.0 if bits is not None else math.log(2)
        return replace(self, tolerance=tolerance / unit)

    @property
    def count(self) -> int:
        """K, the steps of the reverse process."""
        return len(self.even)

    @property
    def draws(self) -> bool:
        """Whether the bound is estimated from some of its steps."""
        return self.looks < self.count

    @property
    def chooses(self) -> bool:
        """Whether the steps are those with the least bound."""
        return self.stride == "optimal" and 1 < self.count < len(self.whole)

    def process(self, table: StepTable | None, ranks: Ranks) -> Process:
        """Return the reverse process, whose steps and variance a table may decide."""
        if self.own is not None:
            return self.own
        variance, count = self.variance, self.count
        kept = ranks.by_first(
            lambda: table.optimal(variance, count) if self.chooses and table else self.even
        )
        analytic = table.analytic if table is not None and variance == "analytic" else None
        return process(self.whole, kept, variance, analytic)

    def facts(self, samples_per_item: int | None) -> dict[str, Any]:
        """Return what defines the bound, for JSON."""
        return {
            "method": self.method,
            "trained_steps": len(self.whole),
            "steps": self.count,
            "stride": self.stride,
            "variance": self.variance,
            "samples_per_item": samples_per_item,
            "few_steps": self.few_steps if self.draws else None,
        }


def choose_bound(
    run: Run,
    method: str,
    steps: int | None,
    stride: str,
    variance: str | None,
    samples_per_item: int | None,
    few_steps: str,
) -> Bound:
    """Check the requested bound; arguments as for :func:`iddpm.likelihood`."""
    run.task.check_denoises(run.directory, "a likelihood")
    check_choice(method, Method, "method")
    check_choice(stride, Stride, "stride")
    check_choice(few_steps, FewSteps, "few_steps")
    kind = _variance(run, variance)
    whole = run.denoiser.diffusion.schedule
    stated = {"steps": steps, "stride": stride, "variance": variance, "few_steps": few_steps}
    _check_method(run, method, stated)
    if method == "ode":
        probes = 1 if samples_per_item is None else samples_per_item
        if probes < 1:
            raise ValueError(
                f"samples_per_item={probes} vectors for a divergence must be 1 or more"
            )
        flow = flow_of(whole, FLOW_STEPS if steps is None else steps)
        looks = len(flow.kept)
        return Bound(method, whole, flow, list(flow.kept), stride, kind, looks, few_steps, probes)
    own = continuous_process(whole, kind) if method == "continuous" else None
    count = len(own.kept) if own else len(whole) if steps is None else steps
    even = even_timesteps(len(whole), count)  # refuses a count out of range
    looks = count if samples_per_item is None else samples_per_item
    if not min(2, count) <= looks <= count:
        raise ValueError(
            f"samples_per_item={looks} does not fit a process of {count} steps: use "
            f"{min(2, count)} to {count}, including the decoder"
        )
    return Bound(method, whole, own, even, stride, kind, looks, few_steps)


def _check_method(run: Run, method: str, stated: Mapping[str, Any]) -> None:
    """Raise ValueError for options that a method lacks, or a model that it does not support."""
    if method == "steps":
        return
    usual = {"steps": None, "stride": "even", "variance": None, "few_steps": "importance"}
    for name in ("stride", "variance", "steps" if method == "continuous" else "few_steps"):
        if stated[name] != usual[name]:
            raise ValueError(
                f"method={method} has no {name}, and {name}={stated[name]} is set: leave it "
                "out, or use method=steps"
            )
    denoiser = run.denoiser
    refused = {
        "predicts the mean of the previous step, which is undefined between steps": (
            denoiser.predicts == "previous"
        ),
        "is conditioned on its own estimate, which an ODE does not have": (
            method == "ode" and denoiser.self_condition
        ),
        "diffuses the residual of its data, which has another density": (
            method == "ode" and denoiser.residual_scale is not None
        ),
    }
    for what, holds in refused.items():
        if holds:
            raise ValueError(f"{run.directory} {what}: use method=steps, not {method}")


def _variance(run: Run, requested: str | None) -> VarianceKind:
    own = run.denoiser.diffusion.variance
    if requested is None or requested == own:
        return own
    if requested == "learned":
        if not own.startswith("learned"):
            raise ValueError(
                f"{run.directory} was trained with variance={own} and has no learned variance: "
                "use analytic, fixed_small or fixed_large"
            )
        return own
    kinds: dict[str, VarianceKind] = {
        "analytic": "analytic",
        "fixed_small": "fixed_small",
        "fixed_large": "fixed_large",
    }
    if requested not in kinds:
        raise ValueError(f"variance {requested!r} is unknown: use learned, {', '.join(kinds)}")
    return kinds[requested]


def check_choice(value: str, known: Any, what: str) -> None:
    """Raise ValueError unless a value is one of those that a Literal names."""
    if value not in get_args(known):
        raise ValueError(f"{what} {value!r} is unknown: use {' or '.join(get_args(known))}")
