"""Tutorials: notebooks/NAME.py, executed and rendered with what they print and draw."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from jupyter_client import KernelManager
from nbclient import NotebookClient

from _site.stage import ROOT, Stage

PROCESSES = 2
PACKAGE = ROOT / "src/iddpm"


def render_notebooks(stage: Stage, cache: Path) -> None:
    """Execute the notebooks that changed and put all into the stage."""
    pages = {name: page for name, page in stage.pages.items() if name.startswith("notebooks/")}
    sources = [ROOT / name for name in pages if name.endswith(".py")]
    cache.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(PROCESSES) as pool:
        executed = list(pool.map(lambda source: executed_copy(source, cache), sources))
    for source, copy in zip(sources, executed, strict=True):
        name = source.relative_to(ROOT).as_posix()
        notebook = nbformat.read(copy, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = stage.linked(cell.source, name, pages[name])
        stage.write(f"{pages[name]}.ipynb", nbformat.writes(notebook) + "\n")


def executed_copy(source: Path, cache: Path) -> Path:
    """Return the executed notebook; a process of its own executes it unless it is in the cache."""
    kept = cache / f"{source.stem}-{_key(source)}.ipynb"
    if not kept.exists():
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "_site.notebooks", str(source), str(kept)]
        done = subprocess.run(command, cwd=ROOT / "docs", env=environment)
        if done.returncode:
            raise SystemExit(f"{source.name} failed; its last cell stands above")
        for old in cache.glob(f"{source.stem}-*.ipynb"):
            if old != kept and old.stem.rpartition("-")[0] == source.stem:
                old.unlink()
    return kept


def _key(source: Path) -> str:
    """Return a hash of the notebook, the package and the versions below it."""
    digest = hashlib.sha256(source.read_bytes())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    digest.update((ROOT / "constraints.txt").read_bytes())
    return digest.hexdigest()[:16]


def execute(source: Path, kept: Path) -> None:
    """Execute one notebook in an empty folder and write it; a failing cell raises."""
    notebook = jupytext.read(source)
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    work = kept.parent / f"work_{source.stem}"
    work.mkdir(exist_ok=True)
    os.chdir(work)  # of the kernel too, whose sockets lie here
    kernel = KernelManager(kernel_name="python3", transport="ipc")  # no network port
    try:
        NotebookClient(notebook, km=kernel, timeout=600, record_timing=False).execute()
    finally:
        kernel.shutdown_kernel(now=True)
    partial = kept.with_suffix(".partial")
    nbformat.write(notebook, partial)
    partial.replace(kept)


if __name__ == "__main__":
    execute(Path(sys.argv[1]), Path(sys.argv[2]))
