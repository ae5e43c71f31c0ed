"""Measurements: ``iddpm likelihood``, ``iddpm evaluate`` and ``iddpm tune``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from iddpm.ui.actions.action import Action, Bench, Text, keywords, option

if TYPE_CHECKING:  # it brings torch, which the server does without
    from iddpm.tasks.evaluation_report import Evaluation

Count = Annotated[int, Field(ge=1, le=10**7)]


class LikelihoodAction(Action):
    """Measure the likelihood of held-out items."""

    kind: ClassVar[str] = "likelihood"

    method: Literal["steps", "continuous", "ode"] = "steps"
    steps: Count | None = None
    samples_per_item: Count | None = None
    max_items: Count | None = None

    @property
    def _how(self) -> dict[str, object]:
        method = None if self.method == "steps" else self.method
        return {
            "method": method,
            "steps": self.steps,
            "samples_per_item": self.samples_per_item,
            "max_items": self.max_items,
        }

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        words = ["likelihood", str(run)]
        for name, value in self._how.items():
            words += option(f"--{name.replace('_', '-')}", value)
        return words

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        how = keywords(self._how)
        return (
            "import iddpm\n\n"
            f"run = iddpm.load({str(run)!r})\n"
            f"bound = iddpm.likelihood(run{', ' + how if how else ''})"
        )

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Measure, and write the report into ``RUN/likelihood``."""
        from iddpm.tasks.likelihood import likelihood
        from iddpm.tasks.likelihood_report import name_of, write_likelihood

        how = {name: value for name, value in self._how.items() if value is not None}
        opened = bench.open_run(run)
        result = likelihood(opened, console=bench.console, **how)  # type: ignore[arg-type]
        bench.console.print(str(result))
        return write_likelihood(result, run / "likelihood", name_of(result), bench.console)


class EvaluateAction(Action):
    """Compare samples with the data.

    Attributes:
        data: other real data that the server has; by default what the run was trained on.
        out: the directory of the report on other data, which the server has chosen.
    """

    kind: ClassVar[str] = "evaluate"

    data: Text | None = None
    out: Text | None = None
    n: Annotated[int, Field(ge=2, le=100_000)] = 1000
    steps: Count | None = 20
    features: Text = "pca"
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        words = ["evaluate", str(run), *([] if self.data is None else [self.data])]
        words += ["-n", str(self.n), "--features", self.features, *option("--steps", self.steps)]
        return [*words, "--seed", str(self.seed), *option("--out", self.out)]

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        data = "" if self.data is None else f"{self.data!r}, "
        how = self.options if self.out is None else f"{self.options}, out={self.out!r}"
        return f"import iddpm\n\nrun = iddpm.load({str(run)!r})\niddpm.evaluate(run, {data}{how})"

    @property
    def _sampling(self) -> dict[str, int]:
        return {} if self.steps is None else {"steps": self.steps}

    @property
    def options(self) -> str:
        """The options of :func:`iddpm.evaluate`, as Python."""
        how = {"n": self.n, "features": self.features, "seed": self.seed}
        return keywords(how | {"sampling": self._sampling})

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Draw, measure, and write the report, into ``RUN/evaluation`` by default."""
        self.evaluate(bench, run)
        return [(run / "evaluation" if self.out is None else Path(self.out)) / "report.md"]

    def evaluate(self, bench: Bench, run: Path) -> "Evaluation":
        """Do what ``iddpm evaluate`` does for one run."""
        from iddpm.tasks.evaluate import evaluate

        return evaluate(
            bench.open_run(run),
            self.data,
            n=self.n,
            features=self.features,
            seed=self.seed,
            sampling=self._sampling,
            out=self.out,
            console=bench.console,
        )


class TuneAction(Action):
    """Measure which sampler and timesteps are best for a run."""

    kind: ClassVar[str] = "tune"

    n: Annotated[int, Field(ge=100, le=100_000)] = 1000
    evaluations: Annotated[str, Field(pattern=r"^[0-9]{1,5}(,[0-9]{1,5}){0,9}$")] = "5,10,20"
    features: Text = "pca"

    @property
    def counts(self) -> list[int]:
        """The numbers of network evaluations."""
        return [int(part) for part in self.evaluations.split(",")]

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        words = ["tune", str(run), "-n", str(self.n), "--evaluations", self.evaluations]
        return [*words, "--features", self.features]

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        return (
            "import iddpm\nfrom iddpm.tasks.tune import TuneRequest, tune\n\n"
            f"run = iddpm.load({str(run)!r})\n"
            f"tune(run, TuneRequest(n={self.n}, evaluations={self.counts}, "
            f"features={self.features!r}))"
        )

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Measure, and write ``RUN/tuned.json``, which the automatic sampler reads."""
        from iddpm.tasks.tune import TuneRequest, tune

        request = TuneRequest(n=self.n, evaluations=self.counts, features=self.features)
        return [tune(bench.open_run(run), request, console=bench.console).path]
