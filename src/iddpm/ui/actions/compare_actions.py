"""Comparisons: ``iddpm evaluate RUN OTHER`` and ``iddpm evaluate --real --generated``."""

from pathlib import Path
from typing import ClassVar

from iddpm.ui.actions.action import Action, Bench, Text, option
from iddpm.ui.actions.inspect_action import data_settings
from iddpm.ui.actions.measure_actions import EvaluateAction

BOTH = ("image_size", "channels", "window", "sample_rate", "range")
"""Settings of a run's data by which generated data is read too."""
REAL = ("column", "layout", "stride")
"""Those by which its training data alone is read."""
COMPARED = "compared"
"""The folder of the run directory with the reports on other data."""


class CompareRunsAction(EvaluateAction):
    """Evaluate two runs, each against its own data, and put both in one table.

    Attributes:
        other: directory of the other run.
    """

    kind: ClassVar[str] = "compare_runs"

    other: Text

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        task, first, *rest = super().arguments(run)
        return [task, first, self.other, *rest]

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        return (
            "from pathlib import Path\n\nimport iddpm\n"
            "from iddpm.tasks.run_comparison import compare_runs\n\n"
            "def measure(directory, out):\n"
            f"    return iddpm.evaluate(iddpm.load(directory), {self.options}, out=out)\n\n"
            f"print(compare_runs([Path({str(run)!r}), Path({self.other!r})], measure))"
        )

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Draw and measure for each, write their reports, and print the table."""
        from iddpm.tasks.evaluation_report import Evaluation
        from iddpm.tasks.run_comparison import compare_runs

        def measure(directory: Path, out: Path | None) -> Evaluation:
            return self.evaluate(bench, directory)

        both = [run, Path(self.other)]
        bench.console.print(compare_runs(both, measure, console=bench.console))
        return [directory / "evaluation" / "report.md" for directory in both]


class CompareDataAction(Action):
    """Compare generated data that is there already with real data.

    Attributes:
        real: a file or folder; by default the data that the run was trained on.
        generated: a file or folder.
        settings: how they are read, beside the settings of the run.
        out: the directory of the report, which the server has chosen.
    """

    kind: ClassVar[str] = "compare_data"

    real: Text | None = None
    generated: Text
    features: Text = "pca"
    settings: tuple[Text, ...] = ()
    out: Text

    def _read(self, run: Path) -> tuple[str, list[str]]:
        """Return the real data, and the settings by which both are read."""
        path, own = data_settings(run)
        settings = ["data.labels=none"]
        for setting in own:
            name = setting.partition("=")[0].removeprefix("data.")
            if name in BOTH:
                settings.append(setting)
            elif name in REAL and self.real is None:
                settings.append(f"real.{setting.removeprefix('data.')}")
        return self.real or path, [*settings, *self.settings]

    def arguments(self, run: Path) -> list[str]:
        """Return the words of the command line after ``iddpm``."""
        real, settings = self._read(run)
        words = ["evaluate", "--real", real, "--generated", self.generated]
        for setting in settings:
            words += ["-s", setting]
        return [*words, *option("--features", self.features), "--out", self.out]

    def python(self, run: Path) -> str:
        """Return lines of Python that do the same."""
        real, settings = self._read(run)
        return (
            "import iddpm\n\n"
            f"iddpm.evaluate({real!r}, {self.generated!r}, settings={settings!r}, "
            f"features={self.features!r}, out={self.out!r})"
        )

    def perform(self, bench: Bench, run: Path) -> list[Path]:
        """Measure, write the report and print it."""
        from iddpm.evaluation.report import markdown
        from iddpm.tasks.evaluate import evaluate

        real, settings = self._read(run)
        result = evaluate(
            real,
            self.generated,
            settings=settings,
            features=self.features,
            device=self.device,
            out=self.out,
            console=bench.console,
        )
        bench.console.print(markdown(result.report))
        return [Path(self.out) / "report.md", Path(self.out) / "neighbours.png"]
