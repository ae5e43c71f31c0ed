"""Defaults that follow from the data and the budget, each with its reason and its measurement.

This is the only place that decides them. A setting of :data:`RULES` that is None is open; a new run
decides it when its data has been opened, prints the reason and writes the value down. Runs of
earlier versions keep what they were (:mod:`iddpm.config.resolved`), and ``preset=published`` has
what the papers have.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from iddpm.config import Config, ResolvedConfig
from iddpm.config.choices import LEVELS

STEPS = 20_000
"""Length of a training for which neither steps nor a time are stated; one for a GPU."""
SECONDS_PER_STEP = 0.5
"""A guess, before anything is measured: the trainings of docs/runs.md took 0.2 to 1.1."""
SHORT, NARROW = 10_000, 64
"""Most steps and most channels of what docs/runs.md and examples/conditions.yaml train at 1e-3."""
WARMUP, WARMUP_SHARE = 100, 10
"""Steps of the warm-up, and of the run for each of them."""
EMA_RATES = ((3_000, 0.99), (30_000, 0.999), (None, 0.9999))
"""Most steps of each rate: geometric means of the lengths in docs/choosing.md."""
LOOKS = 5
"""Times that a short training is looked at, as examples/emoji.yaml and its relatives do 2 to 6."""
SELDOM, OFTEN = 1000, 50
"""Most and fewest steps between two looks."""
NEIGHBORHOOD = {1: 4, 2: 2, 3: 1}
"""By the dimensions of the data; radius 3 was no better in 2-D."""
MANY_PASSES = 40
"""Passes over the data: digits had 0.3 % near copies after 19 without dropout, emoji none after 46
with it (docs/runs.md)."""


class Facts(NamedTuple):
    """What the decisions depend on."""

    generates: bool
    learns_noise: bool
    """Whether there is a prediction: not so for a classifier."""
    steps: int
    """Number of steps, of a limit of time a guess."""
    limited: bool
    """Whether there is a limit of time."""
    passes: float
    """Times that training sees each item; 0 without data."""
    channels: int
    """Width of the network."""
    own: bool
    """Whether the network is the user's own."""
    magnitude_preserving: bool = False
    """Whether its layers are."""
    gives_levels: bool = False
    """Whether it gives a probability to each level."""
    dims: int = 2
    """Spatial dimensions of the data."""

    @property
    def short(self) -> bool:
        """Whether it is a training like those that were measured."""
        return self.steps <= SHORT and (self.own or self.channels <= NARROW)


class Decision(NamedTuple):
    """A value and why, in a clause; empty where the value has no effect."""

    value: Any
    why: str


def _steps(facts: Facts) -> Decision:
    if facts.limited:
        return Decision(STEPS, "until the pace is known")
    return Decision(STEPS, "the length for a GPU; --max-time 15m trains by the clock")


def _predicts(facts: Facts) -> Decision:
    if not facts.learns_noise:
        return Decision("eps", "")
    return Decision("v", "clean after a short training, where eps tints and speckles")


def _learning_rate(facts: Facts) -> Decision:
    if facts.magnitude_preserving:
        return Decision(1e-2, "relative to weights of magnitude 1, as published")
    if facts.short:
        return Decision(1e-3, f"for at most {SHORT:,} steps and {NARROW} channels")
    return Decision(1e-4, "as published, for long trainings and wide networks")


def _warmup_steps(facts: Facts) -> Decision:
    if facts.short or facts.magnitude_preserving:
        return Decision(min(WARMUP, facts.steps // WARMUP_SHARE), "goes with the high rate")
    return Decision(0, "as published, for long trainings and wide networks")


def _anneal(facts: Facts) -> Decision:
    if facts.limited:
        return Decision("linear", "the learning rate reaches 0 at the limit")
    if facts.short:
        return Decision("linear", "goes with the high rate")
    return Decision("none", "as published, for long trainings and wide networks")


def _ema_rates(facts: Facts) -> Decision:
    rate = next(rate for most, rate in EMA_RATES if most is None or facts.steps <= most)
    return Decision((rate,), f"averages over about {1 / (1 - rate):,.0f} of {facts.steps:,} steps")


def _dropout(facts: Facts) -> Decision:
    if facts.generates and not facts.own and facts.passes >= MANY_PASSES:
        return Decision(0.1, f"training sees each item {facts.passes:,.0f} times")
    return Decision(0.0, "training sees each item few times")


def _neighborhood(facts: Facts) -> Decision:
    if not facts.gives_levels or facts.own:
        return Decision(0, "")
    radius = NEIGHBORHOOD[facts.dims]
    count = (2 * radius + 1) ** facts.dims - 1
    return Decision(radius, f"levels are also estimated from {count} neighbors")


def _preview_every(facts: Facts) -> Decision:
    made = _look_every(facts)
    return made if facts.learns_noise else made._replace(why="")


def _look_every(facts: Facts) -> Decision:
    every = min(SELDOM, max(OFTEN, facts.steps // LOOKS))
    return Decision(every, f"of about {facts.steps:,} steps; a preview is also searched for copies")


class Rule(NamedTuple):
    """How a setting is decided, and where that was measured."""

    decide: Callable[[Facts], Decision]
    source: str


RULES: Mapping[str, Rule] = {
    "training.steps": Rule(_steps, "docs/choosing.md"),
    "diffusion.predicts": Rule(_predicts, "docs/choosing.md, benchmarks/predictions.py"),
    "diffusion.neighborhood": Rule(_neighborhood, "docs/likelihood.md"),
    "training.learning_rate": Rule(
        _learning_rate,
        "docs/runs.md, examples/conditions.yaml; Karras et al. 2024",
    ),
    "training.warmup_steps": Rule(_warmup_steps, "docs/runs.md"),
    "training.anneal": Rule(_anneal, "docs/runs.md"),
    "training.ema_rates": Rule(_ema_rates, "docs/choosing.md"),
    "training.validate_every": Rule(_look_every, "examples/emoji.yaml"),
    "training.preview_every": Rule(_preview_every, "examples/emoji.yaml"),
    "model.dropout": Rule(_dropout, "docs/runs.md; never measured alone"),
}
"""By name, in the order in which they are printed."""


def decide(values: dict[str, Any], items: int) -> None:
    """Fill in what is open in nested settings whose batch size and network are known.

    Args:
        values: the settings; changed.
        items: the number of training items; 0 without data.
    """
    facts = _facts_of(values, items, values["training"]["steps"])
    for name, rule in RULES.items():
        section, setting = name.split(".")
        if values[section][setting] is None:
            values[section][setting] = rule.decide(facts).value


def explain(wanted: Config, resolved: ResolvedConfig, items: int) -> list[str]:
    """Return a line for each setting that was open and therefore decided."""
    length = wanted.training.steps or wanted.training.epochs
    facts = _facts_of(resolved.model_dump(), items, resolved.training.steps if length else None)
    lines = []
    for name, rule in RULES.items():
        section, setting = name.split(".")
        unused = resolved.model.network is not None and section == "model"
        value = getattr(getattr(resolved, section), setting)
        made = rule.decide(facts)
        is_open = getattr(getattr(wanted, section), setting) is None
        if is_open and value == made.value and made.why and not unused:
            shown = list(value) if isinstance(value, tuple) else value
            lines.append(f"default    {name}={shown}: {made.why}")
    return lines


def guessed_steps(seconds: float) -> int:
    """Return about how many steps a time allows, before anything is measured."""
    return max(int(seconds / SECONDS_PER_STEP), 1)


def _facts_of(values: Mapping[str, Any], items: int, steps: int | None) -> Facts:
    training, model, diffusion = values["training"], values["model"], values["diffusion"]
    limit = training["max_time"]
    if limit is not None:
        steps = min(guessed_steps(limit), steps or guessed_steps(limit))
    steps = steps or STEPS
    return Facts(
        generates=values["task"] == "generation",
        learns_noise=values["task"] != "classification",
        steps=steps,
        limited=limit is not None,
        passes=steps * training["batch_size"] / items if items else 0.0,
        channels=model["model_channels"],
        own=model["network"] is not None,
        magnitude_preserving=model["layers"] == "magnitude_preserving",
        gives_levels=diffusion["predicts"] in LEVELS or diffusion["decoder"] in LEVELS,
        dims=len(model["size"]),
    )
