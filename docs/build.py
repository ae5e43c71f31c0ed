"""Build the documentation into docs/_build/html, English and Chinese, and a zip of it.

Any warning of Sphinx is an error, and so is a link to nothing and a failing cell of a tutorial.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from _site.commands import command_page
from _site.interface import interface_pages
from _site.notebooks import render_notebooks
from _site.settings import settings_page
from _site.stage import DOCS, Stage

BUILD = DOCS / "_build"
SOURCE = BUILD / "source"
HTML = BUILD / "html"


def stage_pages() -> None:
    """Write all pages that Sphinx reads."""
    stage = Stage(SOURCE)
    render_notebooks(stage, BUILD / "notebooks")
    stage.gather()
    stage.write("reference/cli.md", command_page())
    stage.write("reference/settings.md", settings_page())
    for name, page in interface_pages().items():
        stage.write(f"reference/{name}.rst", page)
    stage.finish()


def start_sphinx(language: str, output: Path) -> subprocess.Popen[bytes]:
    """Start Sphinx, which fails where it warns."""
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", str(DOCS)]
    strict = ["-W", "--keep-going", "-n", "-D", f"language={language}"]
    more = ["-d", str(BUILD / f"doctrees_{language}")]
    more += ["-t", "chinese"] if language != "en" else []
    return subprocess.Popen([*command, *strict, *more, str(SOURCE), str(output)])


def main() -> None:
    """Build everything, both languages at once."""
    stage_pages()
    output = {"en": BUILD / "en", "zh_CN": BUILD / "zh"}
    running = [start_sphinx(language, folder) for language, folder in output.items()]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("the documentation was not built: Sphinx says why above")
    shutil.rmtree(HTML, ignore_errors=True)
    shutil.copytree(output["en"], HTML)
    shutil.copytree(output["zh_CN"], HTML / "zh")
    shutil.make_archive(str(BUILD / "iddpm-docs"), "zip", HTML)
    print(f"wrote {HTML / 'index.html'} and {BUILD / 'iddpm-docs.zip'}")


if __name__ == "__main__":
    main()
