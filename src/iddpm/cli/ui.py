"""``iddpm ui``."""

from pathlib import Path
from typing import Annotated

import typer


def ui(
    runs: Annotated[Path, typer.Argument(help="The directory of your runs.")] = Path("runs"),
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's are risky.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8479,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open the page in a browser.")
    ] = False,
) -> None:
    """Open a page that shows runs while they train, and samples from them.

    Example: iddpm ui runs
    """
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "uvicorn", "jinja2") if find_spec(name) is None]
    if missing:
        raise ValueError(f"iddpm ui needs {missing[0]}: pip install 'iddpm[ui]'")
    from iddpm.ui.server import serve

    serve(runs, host=host, port=port, browser=not no_browser)
