"""Drawing samples: ``iddpm sample``."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from iddpm.config.choices import SAMPLERS, OneOf
from iddpm.ui.actions.action import Action, Bench, Extent, Text, keywords, option, read_extent

MOST_SAMPLES = 4_096
"""More are for the command line."""
Share = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(ge=-1e6, le=1e6)]
SIMPLE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"


SAMPLING = (
    "steps",
    "sampler",
    "spacing",
    "guidance",
    "guidance_rescale",
    "classifier",
    "autoguidance",
    "eta",
    "threshold",
    "batch_size",
)
"""Settings of the sampling plan."""


class SampleAction(Action):
    """Draw samples; what is None is left to the run, as on the command line.

    Attributes:
        given: a file of paired data that the server has.
        classifier: the directory of a guiding classifier that the server has.
        autoguidance: the step of an earlier checkpoint to guide away from.
        name: the folder in ``RUN/samples``, by default ``seed_SEED``.
    """

    kind: ClassVar[str] = "sample"

    n: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 16
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    class_name: Text | None = None
    conditions: dict[Text, Text] = Field(default_factory=dict)
    steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    sampler: Annotated[str, OneOf(SAMPLERS, "auto")] | None = None
    spacing: Text | None = None
    guidance: Scale | None = None
    guidance_low: Annotated[float, Field(ge=0, le=1e30)] | None = None
    guidance_high: Annotated[float, Field(ge=0, le=1e30)] | None = None
    guidance_rescale: Share | None = None
    classifier: Text | None = None
    classifier_scale: Scale | None = None
    autoguidance: Annotated[int, Field(ge=0, le=10**9)] | None = None
    autoguidance_scale: Scale | None = None
    eta: Share | None = None
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=10**6)] | None = None
    given: Text | None = None
    size: Extent | None = None
    ema: Text | None = None
    ema_length: Annotated[float, Field(gt=0, lt=1)] | None = None
    checkpoint: Text | None = None
    gif: bool = False
    npz: bool = False
    name: Annotated[str, Field(pattern=SIMPLE_NAME)] | None = None

    @field_validator("conditions")
    @classmethod
    def _asked(cls, value: dict[str, str]) -> dict[str, str]:
        return {name: text for name, text in value.items() if text.strip()}

    @property
    def folder(self) -> str:
        """The folder in ``RUN/samples``."""
        return self.name or f"seed_{self.seed}"

    @property
    def _interval(self) -> tuple[float, float] | None:
        if self.guidance_low is None and self.guidance_high is None:
            return None
        high = 1e30 if self.guidance_high is None else self.guidance_high
        return (self.guidance_low or 0.0, high)

    @property
    def _sampling(self) -> dict[str, Any]:
        scales = {
            "classifier_scale": self.classifier_scale if self.classifier else None,
            "autoguidance_scale": self.autoguidance_scale if self.autoguidance else None,
        }
        own = {name: getattr(self, name) for name in SAMPLING}
        return own | scales | {"guidance_interval": self._interval}

    @property
    def _weights(self) -> dict[str, Any]:
        device = None if self.device == "auto" else self.device
        return {
            "ema": self.ema,
            "checkpoint": self.checkpoint,
            "ema_length": self.ema_length,
            "device": device,
        }

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        words = ["sample", str(run), "-n", str(self.n), "--seed", str(self.seed)]
        words += option("--class", self.class_name)
        for name, text in self.conditions.items():
            words += ["--condition", f"{name}={text}"]
        sampling = self._sampling
        if self._interval is not None:
            sampling["guidance_interval"] = "{:g},{:g}".format(*self._interval)
        for name, value in (sampling | self._weights).items():
            words += option(f"--{name.replace('_', '-')}", value)
        words += [*option("--given", self.given), *option("--size", self.size)]
        if self.name is not None:
            words += ["--out", str(run / "samples" / self.name)]
        return [*words, *option("--gif", self.gif), *option("--npz", self.npz)]

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        weights = keywords(self._weights)
        asked = {"classes": self.class_name, "conditions": self.conditions or None}
        size = None if self.size is None else read_extent(self.size)
        how = keywords({"seed": self.seed, **asked, "size": size, **self._sampling})
        paired, imported = "", ""
        if self.given is not None:
            imported = "from iddpm.builders import read_given\n"
            paired = f"given = read_given(run.config, {self.given!r}, {size})\n"
            how += f", given={{'given': given[[k % len(given) for k in range({self.n})]]}}"
        return (
            f"import iddpm\n{imported}\n"
            f"run = iddpm.load({str(run)!r}{', ' + weights if weights else ''})\n"
            f"{paired}x = run.sample({self.n}, {how})\n"
            'iddpm.save_grid(x, "grid.png")'
        )

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Draw the samples as ``iddpm sample`` does, and show them on the way."""
        from iddpm.builders import read_given
        from iddpm.data.conditioning.requested import read_requested
        from iddpm.tasks.draw import DrawRequest, Written, draw

        opened = bench.open_run(run, **{k: v for k, v in self._weights.items() if v is not None})
        plan = opened.plan(**self._sampling)
        conditions = read_requested([f"{k}={v}" for k, v in self.conditions.items()])
        size = None if self.size is None else read_extent(self.size)
        given = None if self.given is None else read_given(opened.config, self.given, size)
        request = DrawRequest(self.n, self.seed, self.class_name, conditions, given, size)
        written = Written(out=run / "samples" / self.folder, npz=self.npz, gif=self.gif)
        return draw(opened, request, plan, written, console=bench.console, on_state=bench.show)
