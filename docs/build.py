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


def sphinx(builder: str, output: Path, *options: str) -> None:
    """Run Sphinx; raise SystemExit where it fails or warns."""
    command = [sys.executable, "-m", "sphinx", "-q", "-b", builder, "-c", str(DOCS), *options]
    done = subprocess.run([*command, str(SOURCE), str(output)])
    if done.returncode:
        raise SystemExit(done.returncode)


def main() -> None:
    """Build everything."""
    stage_pages()
    for language, output in (("en", HTML), ("zh_CN", HTML / "zh")):
        cache = BUILD / f"doctrees_{language}"
        strict = ("-W", "--keep-going", "-n")
        sphinx("html", output, *strict, "-d", str(cache), "-D", f"language={language}")
    shutil.make_archive(str(BUILD / "iddpm-docs"), "zip", HTML)
    print(f"wrote {HTML / 'index.html'} and {BUILD / 'iddpm-docs.zip'}")


if __name__ == "__main__":
    main()
