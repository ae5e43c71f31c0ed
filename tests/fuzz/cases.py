"""Hostile calls, made from a seed: settings, YAML, options and files of a run directory."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from iddpm.cli.main import printed, run
from iddpm.config import Config, read_config, to_yaml
from tests.conftest import TINY, images
from tests.fuzz import data_files

VALUES = [
    "", " ", "0", "-1", "1", "2", "3.5", "1e4", "1e300", "-1e300", "1e400", ".inf", "-.inf", ".nan",
    "nan", "inf", "null", "~", "true", "false", "[]", "{}", "[1]", "[1, 2]", "[0, 0, 0, 0]",
    "[.nan, 1]", "[[1]]", "{a: 1}", "{kind: x}", "auto", "none", "x", "'", '"', "[", "{", "&a [*a]",
    "*a", "!!python/name:os.system", "a: b: c", "10" * 16, "9" * 5000, "-" + "9" * 400, "0x10",
    "1_000", "\u0661", "\x1b[31m", "x" * 3000, "\u202e", "../..", "/dev/null", "[" * 3000, "1:30",
    "2026-01-01", "\ud800",
]  # fmt: skip
TOKENS = [
    ":", "- ", "[", "]", "{", "}", "&a ", "*a", "!!int ", "!!python/object:os.x ", "\t", "\n", "#",
    "'", '"', "|", ">", "%", "@", "\x00", "\x1b", "\ufeff", ".inf", ".nan", "9" * 400, "? ", "<<: ",
]  # fmt: skip
OPTIONS: dict[str, tuple[list[str], list[str]]] = {
    "sample": (
        ["-n", "1", "--steps", "2"],
        [
            "--steps", "--sampler", "--spacing", "--variance", "--eta", "--class", "--condition",
            "--given", "--guidance", "--guidance-interval", "--classifier", "--classifier-scale",
            "--classifier-form", "--autoguidance", "--autoguidance-scale", "--threshold",
            "--low-res-noise", "--ema", "--checkpoint", "--ema-length", "--seed", "--batch-size",
            "--precision", "--device", "--threads",
        ],
    ),
    "edit": (
        ["0", "-n", "1", "--steps", "2"],
        ["--strength", "--steps", "--sampler", "--spacing", "--class", "--guidance", "--seed"],
    ),
    "interpolate": (
        ["0", "1", "--frames", "2", "--steps", "2"],
        ["--frames", "--steps", "--class"],
    ),
    "inpaint": (
        ["0", "--mask", "MASK", "-n", "1", "--steps", "2"],
        ["--mask", "--resample", "--jump", "--steps", "--sampler", "--class", "--guidance"],
    ),
    "likelihood": (
        ["--steps", "2", "--max-items", "2"],
        ["--steps", "--stride", "--samples-per-item", "--bits", "--max-items", "--batch-size"],
    ),
    "info": ([], ["--no-such-option"]),
    "upscale": (["MASK"], ["--steps", "--sampler", "--seed"]),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A call, or the words of a command.

    Attributes:
        name: for messages.
        call: returns the exit status.
        out: where it may write.
        made: what was made for the case alone.
        words: of the command that it is.
    """

    name: str
    call: Callable[[], int]
    out: Path | None = None
    made: Path | None = None
    words: list[str] | None = None


@dataclass(frozen=True)
class World:
    """A folder with small data and a trained run, shared by all cases."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data.npz"

    @property
    def trained(self) -> Path:
        return self.folder / "run"

    @property
    def mask(self) -> Path:
        return self.folder / "mask.npy"


def build_world(folder: Path) -> World:
    """Make the data and train the run."""
    world = World(folder)
    np.savez(world.data, arr_0=images(24), arr_1=np.arange(24) % 3)
    np.save(world.mask, np.eye(8, dtype=np.uint8))
    settings = [part for text in TINY for part in ("-s", text)]
    settings += ["-s", "model.class_conditional=true", "-s", "training.posthoc_ema=true"]
    command = ["train", str(world.data), *settings, "--steps", "2", "--out", str(world.trained)]
    assert run(command) == 0
    return world


def make(seed: int, world: World) -> Case:
    """Return the case of that number."""
    chance = random.Random(seed)
    kinds = (setting, yaml_file, option, run_file, training, data_file, data_command)
    weights = (30, 15, 12, 10, 3, 28, 2)
    return chance.choices(kinds, weights)[0](chance, world, seed)


def of_words(
    name: str, words: list[str], out: Path | None = None, made: Path | None = None
) -> Case:
    """Return the case of a command."""
    return Case(name, lambda: run(words), out, made, words)


def leaves(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Yield the name of every setting."""
    for name, field in section.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")


LEAVES = [
    *leaves(), "diffusion.loss.kind", "diffusion.loss.weighting.gamma", "diffusion.loss.vb_weight",
    "training.posthoc_ema.lengths", "model.conditions.a.range", "", ".", "a-b", "x" * 500,
    "\x1b[1m",
]  # fmt: skip


def refusable(read: Callable[[], Any]) -> Callable[[], int]:
    """Return a call that prints a refusal as the command line does."""

    def call() -> int:
        try:
            read()
        except (ValueError, OSError) as error:
            print(printed(f"error: {error}"))
            return 2
        return 0

    return call


def setting(chance: random.Random, world: World, seed: int) -> Case:
    """One or two settings with strange values, read alone."""
    texts = [
        f"{chance.choice(LEAVES)}={chance.choice(VALUES)}" for _ in range(chance.choice((1, 2)))
    ]
    return Case(f"settings {texts}", refusable(lambda: read_config(None, texts)))


def yaml_file(chance: random.Random, world: World, seed: int) -> Case:
    """A settings file with tokens put in, taken out or doubled."""
    lines = to_yaml(Config()).splitlines()
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(lines))
        line = lines[at]
        cut = chance.randint(0, len(line))
        token = chance.choice((*TOKENS, *VALUES))
        lines[at] = chance.choice((line[:cut] + token + line[cut:], line[:cut], token, line * 2))
    path = world.folder / "settings.yaml"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    return Case(f"yaml {lines}", refusable(lambda: read_config(path)))


def option(chance: random.Random, world: World, seed: int) -> Case:
    """A command on the run with a strange option."""
    command = chance.choice(list(OPTIONS))
    positional, options = OPTIONS[command]
    out = world.folder / f"out_{seed}"
    fixed = [str(world.mask) if word == "MASK" else word for word in positional]
    where = [] if command == "info" else ["--out", str(out)]
    arguments = [command, str(world.trained), *fixed, chance.choice(options), chance.choice(VALUES)]
    return of_words(f"options {arguments}", [*arguments, *where], out)


def run_file(chance: random.Random, world: World, seed: int) -> Case:
    """A copy of the run with a file flipped, cut, emptied, removed, or with bytes put in."""
    copy, out = world.folder / "copy", world.folder / f"out_{seed}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(world.trained, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    path = chance.choice(files)
    content = bytearray(path.read_bytes())
    damage = chance.choice(("flip", "cut", "empty", "remove", "insert", "folder"))
    if damage == "flip" and content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif damage == "cut":
        del content[chance.randint(0, len(content)) :]
    elif damage == "insert":
        at = chance.randint(0, len(content))
        content[at:at] = chance.choice(TOKENS).encode("utf-8", "surrogatepass")
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "remove":
        path.write_bytes(b"" if damage == "empty" else bytes(content))
    name = f"run file {path.relative_to(copy)} {damage}"
    sample = ["sample", str(copy), "-n", "1", "--steps", "2", "--out", str(out)]
    averaged = [*sample, "--ema-length", "0.07"]
    resume = ["train", "--resume", "--out", str(copy), "--steps", "3"]
    words = chance.choice((["info", str(copy)], sample, averaged, resume))
    return of_words(f"{name}: {words[0]}", words, None if words is resume else out)


def training(chance: random.Random, world: World, seed: int) -> Case:
    """Training for a step with a strange setting."""
    out = world.folder / f"out_{seed}"
    base = [part for text in TINY for part in ("-s", text)]
    leaf, value = chance.choice(LEAVES), chance.choice(VALUES)
    if leaf == "data.image_size":  # a thousand pixels square are honest work, and take minutes
        leaf = "data.held_out"
    text = f"{leaf}={value}"
    words = ["train", str(world.data), *base, "-s", text, "--steps", "1", "--out", str(out)]
    return of_words(f"training {text}", words, out)


def data_file(chance: random.Random, world: World, seed: int) -> Case:
    """Data of some format with a damaged file, opened and read."""
    kind = chance.choice(list(data_files.FILES))
    files, where = data_files.FILES[kind], world.folder / f"data_{seed}"
    done = data_files.place(files, where, chance)
    read = data_files.opened(where, files, chance)
    return Case(f"data {kind}: {done}", refusable(read), made=where)


def data_command(chance: random.Random, world: World, seed: int) -> Case:
    """The same, looked at by the command."""
    kind = chance.choice(list(data_files.FILES))
    files, where = data_files.FILES[kind], world.folder / f"data_{seed}"
    out = world.folder / f"out_{seed}"
    done = data_files.place(files, where, chance)
    words = data_files.inspecting(where, files, out)
    return of_words(f"inspect {kind}: {done}", words, out, made=where)
