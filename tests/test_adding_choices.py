"""CONTRIBUTING's recipes, followed in a copy: what is added works, and takes two files at most."""

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "iddpm"
CHOICES = "config/choices.py"

SAMPLER = '''"""Euler's method in x0 and eps: DDIM without noise."""

from dataclasses import dataclass

from iddpm.sampling.ddim import DDIM


@dataclass(frozen=True)
class Euler(DDIM):
    """DDIM under another name."""
'''
SCHEDULE = '''

def quadratic(num_steps: int = 1000, *, rescale_timesteps: bool = True) -> NoiseSchedule:
    """Return a schedule whose betas rise with the square of the step."""
    betas = torch.linspace(0.01, 0.14, num_steps, dtype=torch.float64) ** 2 * 1000 / num_steps
    return _from_betas(betas, rescale_timesteps)
'''
WEIGHTING = '''

def power(level: Level, exponent: float = 1.0) -> Tensor:
    """Return alpha_bar to some power."""
    return level.alpha_bar**exponent
'''
WEIGHTING_SECTION = '''class PowerWeighting(WeightingSection):
    """Weight alpha_bar^exponent on the error of eps."""

    home: ClassVar[str | None] = "iddpm.diffusion.weighting:power"
    kind: Literal["power"] = "power"
    exponent: Annotated[float, Field(gt=0)] = 1.0


Weighting = Annotated[
    PowerWeighting | '''
TIMESTEPS = '''

class EarlyTimesteps(UniformTimesteps):
    """The first half of the process alone."""

    def sample(self, uniform: NDArray[np.float64]) -> Timesteps:
        """See :class:`TimestepSampler`."""
        return super().sample(uniform / 2)
'''
PREDICTION = """

_MINUS_EPS = PredictionType(
    lambda x_t, output, level: from_eps(x_t, -output, level),
    lambda x0, eps, x_t, level: -eps,
    lambda level: torch.ones_like(level.alpha_bar),
)
PREDICTION_TYPES = {**PREDICTION_TYPES, "minus_eps": lambda _: _MINUS_EPS}
"""


def add_row(copy: Path, table: str, row: str) -> None:
    """Add a row at the top of one of the tables of choices."""
    path = copy / CHOICES
    before, line, after = path.read_text().partition(f"\n{table}: ")
    head, brace, rest = after.partition("{\n")
    assert line
    assert brace
    path.write_text(f"{before}{line}{head}{brace}    {row}\n{rest}")


def append(copy: Path, file: str, text: str) -> None:
    with (copy / file).open("a") as handle:
        handle.write(text)


def sampler(copy: Path) -> str:
    (copy / "sampling/euler.py").write_text(SAMPLER)
    add_row(copy, "SAMPLERS", '"euler": SamplerChoice("Euler", "iddpm.sampling.euler:Euler"),')
    return "sampling.sampler=euler"


def schedule(copy: Path) -> str:
    append(copy, "diffusion/schedule.py", SCHEDULE)
    row = '"quadratic": ScheduleChoice("x", "iddpm.diffusion.schedule:quadratic"),'
    add_row(copy, "SCHEDULES", row)
    return "diffusion.schedule=quadratic"


def weighting(copy: Path) -> str:
    append(copy, "diffusion/weighting.py", WEIGHTING)
    path = copy / "config/diffusion.py"
    text = path.read_text()
    assert "Weighting = Annotated[\n    " in text
    path.write_text(text.replace("Weighting = Annotated[\n    ", WEIGHTING_SECTION))
    return "diffusion.loss.weighting={kind: power, exponent: 0.5}"


def timestep_sampler(copy: Path) -> str:
    append(copy, "training/timesteps.py", TIMESTEPS)
    row = '"early": Choice("x", "iddpm.training.timesteps:EarlyTimesteps"),'
    add_row(copy, "TIMESTEP_SAMPLERS", row)
    return "training.timestep_sampler=early"


def prediction(copy: Path) -> str:
    append(copy, "diffusion/prediction.py", PREDICTION)
    add_row(copy, "PREDICTIONS", '"minus_eps": "the noise, negated",')
    return "diffusion.predicts=minus_eps"


METRIC = '''"""How far apart the means are."""

from iddpm.evaluation.feature_sets import FeatureSets


def mean_gap(compared: FeatureSets) -> float:
    """Return the distance between the means of both sets of features."""
    return float((compared.features.double().mean(dim=0) - compared.stats.mean).norm())
'''
COMMAND_TASK = '''"""Count the weights of a run."""

from iddpm.runs.run import Run


def count(run: Run) -> int:
    """Return how many numbers the network holds."""
    return sum(weight.numel() for weight in run.denoiser.network.parameters())
'''
COMMAND = '''"""``iddpm count``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.runtime.console import say


def count(run: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Count the weights of a run.

    Example: iddpm count runs/photos
    """
    import iddpm
    from iddpm.tasks.count import count

    say(f"{count(iddpm.load(run))} weights")
'''


def metric(copy: Path) -> str:
    (copy / "evaluation/mean_gap.py").write_text(METRIC)
    path = copy / "evaluation/metrics.py"
    text = path.read_text()
    text = text.replace(
        "= {\n", '= {\n    "mean_gap": Metric("gap of the means", "lower", mean_gap),\n', 1
    )
    first = "from iddpm.evaluation.distances"
    path.write_text(
        text.replace(first, f"from iddpm.evaluation.mean_gap import mean_gap\n{first}", 1)
    )
    return "gap of the means"


def new_command(copy: Path) -> str:
    (copy / "tasks/count.py").write_text(COMMAND_TASK)
    (copy / "cli/count.py").write_text(COMMAND)
    return " weights"


READER = '''"""Lines of bytes: signals of one channel."""

from pathlib import Path

import numpy as np

from iddpm.data.file_format import Form
from iddpm.data.sources.arrays import ArraySource


def open_bytes(path: Path, labels: str, value_range: object) -> ArraySource:
    """Open a file of lines of 8 bytes."""
    values = np.frombuffer(path.read_bytes(), dtype=np.uint8).reshape(-1, 8, 1)
    source = ArraySource(values, name=path.name, layout="NLC")
    source.form = Form("bytes", source.form.values)
    return source
'''
WRITER = '''"""Lines of bytes."""

from pathlib import Path

from iddpm.data.file_format import Form


def write_bytes(path: Path, item: object, form: Form) -> None:
    """Write an item [1, 8]."""
    path.write_bytes(item.tobytes())
'''


def data_format(copy: Path) -> None:
    (copy / "data/sources/bytes_file.py").write_text(READER)
    (copy / "data/writers/bytes_files.py").write_text(WRITER)
    path = copy / "data/formats.py"
    text = path.read_text()
    for old, new in {
        "from iddpm.data.sources.hdf5": "from iddpm.data.sources.bytes_file import open_bytes\n",
        "from iddpm.data.writers.clip_": "from iddpm.data.writers.bytes_files import write_bytes\n",
    }.items():
        assert old in text
        text = text.replace(old, new + old, 1)
    row = 'Format("bytes", (".bytes",), lambda path, s: open_bytes(path, **s.of())),'
    text = text.replace(
        "FORMATS: tuple[Format, ...] = (", "FORMATS: tuple[Format, ...] = (" + row, 1
    )
    head = "WRITERS: Mapping[str, Writer] = {"
    assert head in text
    text = text.replace(head, head + '"bytes": Writer(lambda form: ".bytes", write_bytes),', 1)
    path.write_text(text)


def changed_files(copy: Path) -> list[str]:
    """Return the files that differ from the source or are not in it."""
    names = [path.relative_to(copy).as_posix() for path in copy.rglob("*.py")]
    return [
        name
        for name in names
        if not (SOURCE / name).exists() or not filecmp.cmp(copy / name, SOURCE / name, False)
    ]


def run(root: Path, *commands: tuple[str, ...]) -> list[str]:
    """Run commands of the copy, in one process, and return what each prints."""
    code = (
        "import iddpm, json, sys; assert iddpm.__file__.startswith(sys.argv[1]), iddpm.__file__\n"
        "from iddpm.cli.main import run\n"
        "for command in json.loads(sys.argv[2]): print('\\0' if run(command) == 0 else sys.exit(1))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(root), json.dumps(commands)],
        env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split("\0")


def fresh(folder: Path) -> Path:
    """Return a copy of the package below a folder."""
    copy = folder / "src" / "iddpm"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


SETTINGS = (sampler, schedule, weighting, timestep_sampler, prediction)


@pytest.mark.parametrize("add", [*SETTINGS, metric, new_command])
def test_a_choice_takes_two_files(add, tmp_path):
    copy = fresh(tmp_path)
    add(copy)
    assert len(changed_files(copy)) == 2


def test_a_format_takes_three_files(tmp_path):
    copy = fresh(tmp_path)
    data_format(copy)
    assert len(changed_files(copy)) == 3


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> tuple[Path, list[str], str, str]:
    """Return a folder with a package that has every choice, and what the additions return."""
    root = tmp_path_factory.mktemp("extended")
    copy = fresh(root)
    settings = [add(copy) for add in SETTINGS]
    data_format(copy)
    return root, settings, metric(copy), new_command(copy)


@pytest.mark.system
def test_added_choices_train_sample_and_measure(extended, tmp_path, array_file, tiny):
    root, added, measured, counted = extended
    settings = [part for text in (*tiny, *added) for part in ("-s", text)]
    directory = str(tmp_path / "run")
    said = run(
        root,
        ("train", str(array_file), *settings, "--steps", "1", "--out", directory),
        ("sample", directory, "-n", "1", "--steps", "3"),
        ("evaluate", directory, "-n", "8", "--steps", "1"),
        ("count", directory),
    )
    kept = (tmp_path / "run/config.yaml").read_text()
    for setting in added:
        assert setting.partition("=")[2].split(":")[-1].strip(" }") in kept
    assert measured in said[2]
    assert counted in said[3]


@pytest.mark.system
def test_an_added_format_is_read_and_written(extended, tmp_path, tiny):
    root, *_ = extended
    data, directory = tmp_path / "lines.bytes", tmp_path / "run"
    data.write_bytes(bytes(range(128)))
    settings = [part for text in tiny for part in ("-s", text)]
    run(
        root,
        ("train", str(data), *settings, "--steps", "1", "--out", str(directory)),
        ("sample", str(directory), "-n", "2", "--steps", "2"),
    )
    drawn = sorted((directory / "samples/seed_0").glob("*.bytes"))
    assert [len(path.read_bytes()) for path in drawn] == [8, 8]
