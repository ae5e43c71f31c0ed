"""``iddpm doctor``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.runtime.console import say


def doctor(
    runs: Annotated[Path, typer.Argument(help="The directory of your runs.")] = Path("runs"),
) -> None:
    """Show versions, devices, memory and extras, and warn of problems; paste it into reports.

    Example: iddpm doctor
    """
    from iddpm.tasks.doctor import examine

    found = examine(runs)
    for name, text in found.facts:
        say(f"{name:<15}{text}")
    for problem in found.problems:
        say(f"warning: {problem}")
    if not found.problems:
        say("no problems found")
