"""What is printed."""

import ast
from pathlib import Path

import pytest

import iddpm
from iddpm.runtime.console import WatchedConsole, open_console, progress_bar, say


def test_control_characters_of_names_do_not_reach_the_terminal(capsys):
    open_console().print("class \x1b[31mred\x9b\x07 [b] is\nthere", markup=False)
    assert capsys.readouterr().out == "class \\x1b[31mred\\x9b\\x07 [b] is\nthere\n"


@pytest.mark.parametrize("stderr", [False, True])
def test_brackets_and_colons_of_names_stay(capsys, stderr):
    open_console(stderr=stderr).print("wrote [/x]/[red]/:cat:")
    assert "".join(capsys.readouterr()) == "wrote [/x]/[red]/:cat:\n"


def test_what_commands_print_holds_no_control_characters(capsys):
    say("a\x1b[31m\x00\t\u202e\udcff é", end="")
    assert capsys.readouterr().out == "a\\x1b[31m\\x00\t\\u202e\\udcff é"


def test_nothing_prints_past_the_console():
    """What is printed in any other way could hold control characters of names."""
    past, allowed = {"print", "Console", "typer.echo"}, {"runtime/console.py", "cli/main.py"}
    root = Path(iddpm.__file__).parent
    printing = set()
    for path in root.rglob("*.py"):
        calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
        if past & {ast.unparse(call.func) for call in calls}:
            printing.add(path.relative_to(root).as_posix())
    assert printing == allowed


def test_lines_and_progress_can_be_watched_and_the_work_ended():
    lines, steps = [], []
    console = WatchedConsole(lines.append, lambda done, total: steps.append((done, total)))
    console.print("a\x1b[31m\nb", 3)
    assert lines == ["a\\x1b[31m", "b 3"]
    with progress_bar(console, "sampling") as progress:
        assert list(progress.track(range(3))) == [0, 1, 2]
    assert steps[0] == (0, 3)
    assert steps[-1] == (3, 3)

    def refuse(done, total):
        if done == 2:
            raise InterruptedError

    done = []
    with (
        pytest.raises(InterruptedError),
        progress_bar(WatchedConsole(lines.append, refuse), "sampling") as progress,
    ):
        done.extend(progress.track(range(3)))
    assert done == [0, 1]


def test_environments_that_take_colors_get_lines_as_files_do(capsys, monkeypatch):
    """Notebooks set FORCE_COLOR, and a bar there is a page of control characters."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = open_console()
    with progress_bar(console, "measuring") as bar:
        for _ in bar.track(range(3)):
            pass
    console.print("a line")
    assert capsys.readouterr().out == "a line\n"
