"""Run notebooks/NAME.py (jupytext, py:percent) and write notebooks/NAME.ipynb beside it."""

import argparse
import os
from pathlib import Path

import jupytext
import nbformat
from jupyter_client import KernelManager
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent


def regenerate(name: str) -> Path:
    """Execute one notebook and write it without anything that tells of the machine or the day."""
    notebook = jupytext.read(HERE / f"{name}.py")
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    kernel = KernelManager(kernel_name="python3", transport="ipc")  # no network port
    try:
        NotebookClient(notebook, km=kernel, timeout=600, record_timing=False).execute()
    finally:
        kernel.shutdown_kernel(now=True)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata = {}
        for output in cell.get("outputs", []):
            output.pop("metadata", None)
            if output.output_type in ("display_data", "execute_result"):
                output.metadata = {}
                output.data = {
                    kind: value
                    for kind, value in output.data.items()
                    if kind == "image/png" or "image/png" not in output.data
                }
    nbformat.validate(notebook)
    path = HERE / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=["network"], help="notebooks (default: network)"
    )
    for wanted in parser.parse_args().names:
        print(regenerate(wanted))
