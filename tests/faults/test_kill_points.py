"""Every command, killed at any change of its files and repeated, ends as if undisturbed."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from iddpm.cli.main import run
from tests.conftest import TINY, images
from tests.faults.kill_points import contents, in_a_fork
from tests.faults.test_kill import differences

pytestmark = pytest.mark.system

SETTINGS = [
    word
    for setting in (
        *TINY,
        "model.class_conditional=true",
        "data.cache=auto",
        "data.held_out=0.2",
        "training.posthoc_ema.every=2",
        "training.log_every=1",
        "training.save_every=2",
        "training.preview_every=2",
        "training.validate_every=2",
        "training.keep_checkpoints=2",
    )
    for word in ("-s", setting)
]
STEPS = 6
SHORT = {
    "train": 4,
    "train-classifier": 2,
    "sample": 4,
    "likelihood": 2,
    "evaluate": 3,
    "upscale": 4,
    "distill": 3,
}
"""Kills of commands in CI; ``make kill-test`` kills all of them at every change."""


@dataclass(frozen=True)
class Command:
    """A command that writes below a folder.

    Attributes:
        words: the command, given the folder that it works in.
        again: what is repeated after a kill, where that is another command.
        same: names what differs between a folder of an undisturbed command and another.
    """

    words: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]] | None = None
    same: Callable[[Path, Path], list[str]] | None = None
    first: Callable[[Path], list[str]] | None = None
    """A command that makes what it needs beside the folder of :func:`world`."""


def train(folder: Path) -> list[str]:
    going_on = ["--resume"] if (folder / "run/config.yaml").is_file() else []
    data = [] if going_on else [str(folder.parent / "data.npz"), *SETTINGS]
    return ["train", *data, *going_on, "--steps", str(STEPS), "--out", str(folder / "run")]


def upscaler(folder: Path) -> list[str]:
    settings = [word for setting in TINY for word in ("-s", setting)]
    data, out = str(folder.parent / "data.npz"), str(folder / "upscaler")
    task = ["-s", "task=super_resolution", "-s", "scale=2"]
    return ["train", data, *settings, *task, "--steps", "2", "--out", out]


def classifier(folder: Path) -> list[str]:
    out, data = str(folder / "run/classifier"), str(folder.parent / "data.npz")
    if (folder / "run/classifier/config.yaml").is_file():
        return ["train-classifier", "--resume", "--out", out, "--steps", "4"]
    settings = [
        word
        for pair in zip(SETTINGS[::2], SETTINGS[1::2], strict=True)
        if not pair[1].startswith(("model.class_cond", "training.posthoc", "sampling"))
        for word in pair
    ]
    return ["train-classifier", data, *settings, "--steps", "4", "--out", out]


def same_training(at: str, steps: int) -> Callable[[Path, Path], list[str]]:
    def compare(folder: Path, whole: Path) -> list[str]:
        found = differences(folder / at, whole / at, steps)
        previews = [
            sorted(p.name for p in (f / at / "samples").glob("*.png")) for f in (folder, whole)
        ]
        return found + (["previews"] if previews[0] != previews[1] else [])

    return compare


DISTILLED_STEPS = 4
TEACHERS = {
    "distill": ["model.class_conditional=true"],
    "distill signals": ["data.layout=NLC"],
    "distill volumes": ["data.layout=NDHWC"],
    "distill paired": ["data.given=beside.npy", "data.conditions=[age]"],
    "distill low resolution": ["task=super_resolution", "scale=2"],
}
"""The settings of teachers; with classes or conditions they are distilled for a range of scales."""


def teacher(name: str) -> Callable[[Path], list[str]]:
    """Train a teacher that predicts v, on data beside the folder."""

    def words(folder: Path) -> list[str]:
        data = folder.parent / ("data.npz" if name not in VALUES else f"{name}.npy")
        if name in VALUES:
            np.save(data, np.random.default_rng(0).random(VALUES[name], np.float32))
        np.save(folder.parent / "beside.npy", 255 - images(40))
        beside = f"={folder.parent}/beside.npy"
        settings = [s.replace("=beside.npy", beside) for s in TEACHERS[name]]
        chosen = [*TINY, "diffusion.predicts=v", "training.steps=1", *settings]
        out = ["--out", str(folder.parent / f"teacher {name}")]
        return ["train", str(data), *(w for s in chosen for w in ("-s", s)), *out]

    return words


VALUES = {"distill signals": (40, 16, 1), "distill volumes": (40, 4, 8, 8, 1)}
"""Shapes of the data that is not that of the other commands."""


def distill(name: str) -> Command:
    def words(folder: Path) -> list[str]:
        run, out = folder.parent / f"teacher {name}", folder / "few"
        going_on = ["--resume"] if (out / "config.yaml").is_file() else []
        settings = [f"training.steps={DISTILLED_STEPS}"]
        settings += [f"training.{what}=2" for what in ("save_every", "validate_every")]
        settings += ["training.preview_every=2", "training.log_every=1"]
        scale = [] if name in VALUES or "low" in name or going_on else ["--guidance", "1:4"]
        chosen = [] if going_on else [w for s in settings for w in ("-s", s)]
        return ["distill", str(run), "--out", str(out), *going_on, *scale, *chosen]

    return Command(words, same=same_training("few", DISTILLED_STEPS), first=teacher(name))


def plain(kind: str, *words: str) -> Callable[[Path], list[str]]:
    return lambda folder: [kind, str(folder / "run"), *words]


def upscale(folder: Path) -> list[str]:
    """Of two sizes, so that one is written while the other is still to be drawn."""
    out = str(folder / "up")
    return [
        "upscale",
        str(folder / "upscaler"),
        str(folder / "small"),
        "--steps",
        "2",
        "--out",
        out,
    ]


COMMANDS = {
    "train": Command(train, same=same_training("run", STEPS)),
    "train-classifier": Command(classifier, same=same_training("run/classifier", 4)),
    "sample": Command(plain("sample", "-n", "5", "--steps", "2", "--batch-size", "2", "--npz")),
    "likelihood": Command(plain("likelihood", "--steps", "5", "--max-items", "4")),
    "evaluate": Command(plain("evaluate", "-n", "12", "--steps", "2", "--batch-size", "5")),
    "upscale": Command(upscale),
    "edit": Command(plain("edit", "0", "-n", "3", "--steps", "2")),
    "interpolate": Command(plain("interpolate", "0", "1", "--frames", "3", "--steps", "2")),
    **{name: distill(name) for name in TEACHERS},
}


def volatile(name: str) -> bool:
    """Files that hold times, and the lock."""
    return name.endswith(("lock", "log.jsonl", "log.csv", "exit.json", ".said", ".count"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Data and a trained run, with the cache of decoded data beside them."""
    folder = tmp_path_factory.mktemp("world")
    os.environ["IDDPM_CACHE"] = str(folder / "start/cache")
    np.savez(folder / "data.npz", arr_0=images(40), arr_1=np.arange(40) % 3, age=np.arange(40))
    (folder / "empty").mkdir()
    (folder / "start").mkdir()
    for words in (train(folder / "start"), upscaler(folder / "start")):
        assert run(words) == 0  # in this process: no fork has to import all that a training needs
    (folder / "start/small").mkdir()
    for number, picture in enumerate(images(5)[..., 0]):
        picture = picture[: 4 + number % 2, :4]
        Image.fromarray(picture).save(folder / f"start/small/{number}.png")
    return folder


def report(folder: Path) -> dict[str, str]:
    """Return what files hold, JSON without its times."""
    found = contents(folder, volatile)
    for name in found:
        if name.endswith(".json"):
            found[name] = json.dumps(untimed(json.loads((folder / name).read_text())))
    return found


def untimed(value: Any) -> Any:
    """Leave out seconds, wherever they lie."""
    if isinstance(value, dict):
        return {key: untimed(part) for key, part in value.items() if "second" not in key}
    return value


def killed_and_repeated(world: Path, name: str, points: int | None = None) -> tuple[int, int]:
    """Kill a command at some of its changes, at all by default, and repeat it to its end.

    At all of them its repetition is killed once more before that, at a change that is drawn from
    the environment's KILL_SEED.

    Returns:
        How many changes there are, and how many kills there were.
    """
    command = COMMANDS[name]
    alone = name == "train" or command.first is not None
    before = world / ("empty" if alone else "start")
    work, whole = world / "work", world / f"whole_{name}"

    def go(kill_at: int | None = None) -> int:
        os.environ["IDDPM_CACHE"] = str(work / "cache")
        return in_a_fork(lambda: run(command.words(work)), work, kill_at)

    def fresh() -> None:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(before, work)

    # The same place for all, since files name their paths.
    fresh()
    if command.first is not None and not (world / f"teacher {name}").is_dir():
        assert run(command.first(work)) == 0
    changes = go()
    shutil.rmtree(whole, ignore_errors=True)
    shutil.copytree(work, whole)
    chance, kills = random.Random(f"{name} {os.environ.get('KILL_SEED', 0)}"), 0
    for kill_at in range(1, changes + 1, 1 if points is None else max(1, changes // points)):
        second = chance.randint(1, changes) if points is None else None
        fresh()
        if go(kill_at) >= 0:
            continue  # another order of threads: this time there were fewer changes
        kills += 1
        if second is not None:
            kills += go(second) < 0  # it may have fewer changes, and be finished
        go()
        if command.same is not None:
            found = command.same(work, whole)
        else:
            one, other = report(work), report(whole)
            found = [n for n in sorted({*one, *other}) if one.get(n) != other.get(n)]
        message = f"{name} killed at change {kill_at} of {changes}, then {second}: {found}"
        assert found == [], message
        (world / f"{name}.progress").write_text(f"{kills} kills, at change {kill_at}, {changes}\n")
    return changes, kills


@pytest.mark.parametrize("name", SHORT)
def test_a_few_moments(world, name):
    _, kills = killed_and_repeated(world, name, SHORT[name])
    assert kills >= SHORT[name] - 1


@pytest.mark.slow
@pytest.mark.timeout(10800)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_moment(world, name, capsys):
    changes, kills = killed_and_repeated(world, name)
    with capsys.disabled():
        print(f"\niddpm {name}: {kills} kills at {changes} changes of its files, 0 differences")
    assert kills > 1.2 * changes
