"""Commands, settings, targets and Python in README and docs are those of the program.

Nothing is run here: Python compiles, and the command line parses commands without running them.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import jupytext
import pytest
import typer

from iddpm.cli.main import UsageError, app
from iddpm.config import Config, read_config
from iddpm.config.validation_message import _all_keys

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "notebooks/*.py")
    for path in ROOT.glob(pattern)
    if path.name not in ("CHANGELOG.md", "regenerate.py")  # the former tells of the past
)
KEYS = set(_all_keys(Config))
SECTIONS = {key.partition(".")[0] for key in KEYS if "." in key}
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
FENCE = re.compile(r"^( *)(`{3,}|~{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
COMMANDS = typer.main.get_command(app)
PLACE = re.compile(r"^(.*\.\.\.|\[.*|<.*|.*…)$")
"""Words that stand for others: a line with one is not parsed as a whole."""


def read(page: str) -> str:
    """Return the text of a page, or that between the code of a notebook."""
    if not page.endswith(".py"):
        return (ROOT / page).read_text(encoding="utf-8")
    cells = jupytext.read(ROOT / page).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    for _, _, language, text in FENCE.findall(read(page)):
        yield language.strip().strip("{}").split(" ")[0], text


def lines(page: str) -> Iterator[str]:
    """Yield the lines of blocks that a reader may type, without what explains them."""
    for language, text in blocks(page):
        if language not in ("python", "py", "yaml", "json"):
            for line in re.sub(r"\\\n\s*", " ", text).splitlines():
                yield re.split(r"\s{2,}| # ", line.strip().removeprefix("$ "))[0]


def named(page: str) -> Iterator[str]:
    """Yield code within the text, in tables too."""
    prose = FENCE.sub("", read(page))
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)


def arguments(line: str) -> str | None:
    """Return what follows ``iddpm`` where a line is a command of it."""
    found = re.search(r"(?:^|-m )iddpm (?=[a-z-]+)(.*)$", line)
    return found[1] if found and not re.search(r"\|\s*\S|[;&]", found[1].split('"')[0]) else None


def command_of(words: list[str]) -> tuple[typer.core.TyperCommand, list[str]]:
    """Return the command and the words behind its name."""
    command = COMMANDS
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{words[0]} is not a command"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def parsed(text: str) -> typer.Context | None:
    """Return the context of a command; None where words in it stand for others."""
    words = shlex.split(text)
    command, words = command_of(words[: words.index(">")] if ">" in words else words)
    if hasattr(command, "commands") or any(PLACE.match(word) for word in words):
        check_options(command, words)
        return None
    return command.make_context("iddpm", words)


def check_options(command: typer.core.TyperCommand, words: list[str]) -> None:
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    for word in words:
        if re.match(r"--?[a-z][a-z-]*\]?$", word):
            assert word.rstrip("]") in known, f"{word} is not an option"


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_those_of_the_program(page):
    wrong = []
    for line, whole in [*((x, True) for x in lines(page)), *((x, False) for x in named(page))]:
        text = arguments(line)
        try:
            if text is not None and whole:
                check_settings(parsed(text))
            elif text is not None:
                check_options(*command_of(text.split()))
        except (AssertionError, ValueError, UsageError) as error:
            wrong.append(f"iddpm {text}: {error}")
    assert not wrong, "\n".join(wrong)


def check_settings(context: typer.Context | None) -> None:
    """Read the settings of a command; those that add to a run's only by their names."""
    settings = context.params.get("settings") if context is not None else None
    if not isinstance(settings, list):
        return
    for setting in settings:
        key = re.sub(r"^(real|generated)\.", "", setting.partition("=")[0])
        assert key in KEYS or ".conditions." in key, f"{key} is not a setting"
    if not context.params.get("resume") and "generated" not in context.params:
        read_config(None, settings)


@pytest.mark.parametrize("page", PAGES)
def test_settings_exist(page):
    """Also those in a sentence: what a section's name starts has to be a setting."""
    text = read(page)
    found = set(re.findall(r"(?<![\w./-])([a-z_]+(?:\.[a-z_]+)+)=", text))
    settings = {name for name in found if name.partition(".")[0] in SECTIONS}
    unknown = {name for name in settings if name not in KEYS and "conditions." not in name}
    assert not unknown


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_exist(page):
    targets = {
        found[1]
        for line in [*lines(page), *named(page)]
        if (found := re.match(r"(?:[A-Z_]+=\S+ )*make ([a-z][a-z-]*)", line.strip()))
    }
    assert targets <= TARGETS


@pytest.mark.parametrize("page", PAGES)
def test_python_compiles(page):
    for language, text in blocks(page):
        if language in ("python", "py"):
            ast.parse(re.sub(r"^( *)\.\.\.$", r"\1...", text, flags=re.MULTILINE))


def test_a_wrong_command_is_found():
    assert parsed("sample runs/demo -n 4").params["n"] == 4
    with pytest.raises(UsageError):
        parsed("sample runs/demo --numbers 4")
    with pytest.raises(AssertionError):
        parsed("draw runs/demo -n 4")
