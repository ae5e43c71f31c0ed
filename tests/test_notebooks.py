"""The notebooks run, and the executed copies are those of their sources and tell of no machine."""

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
NAMES = ["network"]
TUTORIALS = sorted({path.stem for path in NOTEBOOKS.glob("*.py")} - {"regenerate", *NAMES})
"""Executed where the documentation is built; no executed copy is kept."""
MACHINE_PATH = re.compile(
    r"(?<![\w.])/(home|root|Users|work|tmp|usr|opt|mnt|var|private|content)/"
    r"|\b[A-Za-z]:\\|site-packages|ipykernel_\d|\.venv/lib"
)


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """Return everything in a notebook that a person can read, pictures taken as their bytes."""
    found = [str(notebook.metadata)]
    for cell in notebook.cells:
        found += [cell.source, str(cell.metadata)]
        for output in cell.get("outputs", []):
            found += [output.get("text", ""), *output.get("traceback", [])]
            for kind, value in output.get("data", {}).items():
                binary = kind.startswith("image/png")
                found.append(base64.b64decode(value).decode("latin-1") if binary else str(value))
    return found


def test_every_notebook_is_tested():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(NAMES)


@pytest.mark.slow  # `make docs` runs them in CI
@pytest.mark.parametrize("name", [*NAMES, *TUTORIALS])
def test_source_runs(name, tmp_path):
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, NOTEBOOKS / f"{name}.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind


@pytest.mark.parametrize("name", NAMES)
def test_executed_copy_is_that_of_the_source(name):
    source = jupytext.read(NOTEBOOKS / f"{name}.py")
    cells = [[(cell.cell_type, cell.source) for cell in n.cells] for n in (source, read(name))]
    assert cells[0] == cells[1], "run notebooks/regenerate.py"


@pytest.mark.parametrize("name", NAMES)
def test_executed_copy_is_complete_and_small(name):
    code = [cell for cell in read(name).cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == sum(cell.source.count("plt.show()") for cell in code) > 0
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < 600_000


@pytest.mark.parametrize("name", NAMES)
def test_executed_copy_tells_of_no_machine(name):
    repository = str(NOTEBOOKS.parent.resolve())
    for text in texts(read(name)):
        assert repository not in text
        if "\x89PNG" not in text[:4]:  # random bytes may look like a short path
            assert not MACHINE_PATH.search(text), MACHINE_PATH.search(text)


@pytest.mark.parametrize("name", NAMES)
def test_every_text_is_in_both_languages(name):
    for cell in read(name).cells:
        if cell.cell_type == "markdown":
            assert re.search(r"[a-z]{4}", cell.source), cell.source
            assert re.search(r"[\u4e00-\u9fff]", cell.source), cell.source


@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorials_have_pictures_and_link_to_pages_that_exist(name):
    notebook = jupytext.read(NOTEBOOKS / f"{name}.py")
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert len(re.findall(r"plt\.show\(\)|^Image\.open\(", code, re.MULTILINE)) >= 2
    assert re.match(r"# \w", text), "the title comes first"
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    for link in links:
        assert (NOTEBOOKS / link).is_file(), link
