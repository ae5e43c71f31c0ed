"""Use an installed iddpm as a new user does: python -I smoke.py VERSION CHECKOUT bare|ui.

Copied into an empty directory; it imports nothing of the checkout, and says so.
"""

import importlib.metadata
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np

import iddpm

TINY = ["model.model_channels=8", "model.channel_mult=[1,2]", "model.num_res_blocks=1",
        "model.attention_downsampling=[]", "diffusion.num_steps=20", "data.held_out=0",
        "training.batch_size=8", "training.log_every=2", "training.device=cpu"]  # fmt: skip
COMMAND = Path(sys.prefix) / "bin/iddpm"


def call(*arguments: str, status: int = 0, module: bool = False) -> str:
    """Run the installed command, or ``python -m iddpm``, and return what it printed."""
    start = [sys.executable, "-I", "-m", "iddpm"] if module else [str(COMMAND)]
    done = subprocess.run([*start, *arguments], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == status, f"iddpm {' '.join(arguments)}: {done.returncode}\n{said}"
    return said


def check_place(version: str, checkout: Path) -> None:
    """Check that Python finds the installed package and nothing of the checkout."""
    assert sys.prefix != sys.base_prefix, "not in a virtual environment"
    found = Path(iddpm.__file__)
    assert found.is_relative_to(sys.prefix), f"{found} is imported"
    inside = [entry for entry in sys.path if Path(entry).resolve().is_relative_to(checkout)]
    assert inside == [], f"{inside} belong to the checkout"
    said = {iddpm.__version__, importlib.metadata.version("iddpm"), call("--version").strip(),
            call("--version", module=True).strip()}  # fmt: skip
    assert said == {version}, said
    assert (found.parent / "py.typed").is_file()
    print(f"imported from the new environment, version {version} in all four places")


def check_commands() -> None:
    """Train four steps on an array, sample, and show the run."""
    x = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), dtype=np.uint8)
    np.save("x.npy", x)
    settings = [part for setting in TINY for part in ("-s", setting)]
    call("train", "x.npy", "--out", "run", "--steps", "4", *settings)
    call("sample", "run", "-n", "3", "--steps", "2", "--out", "samples")
    assert len(list(Path("samples").glob("0*.png"))) == 3
    for module in (False, True):
        assert "step 4 of 4" in call("info", "run", module=module)
    drawn = iddpm.load("run").sample(2, steps=2, seed=0)
    assert drawn.shape == (2, 1, 8, 8)
    print("trained on an array, sampled, showed the run, and sampled from Python")


def check_no_ui() -> None:
    """Without the extra the error names what to install."""
    said = call("ui", "runs", "--no-browser", status=2)
    assert "pip install 'iddpm[ui]'" in said, said
    print(f"without the extra: {said.strip()}")


def check_ui() -> None:
    """The page answers with the token it printed, with its own files and those of others."""
    command = [str(COMMAND), "ui", ".", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            page = _open(opener, url)
            assert "htmx.min.js" in page, page
            for name in ("app.js", "vendor/htmx/htmx.min.js", "vendor/uplot/uPlot.iife.min.js"):
                assert _open(opener, f"{url.partition('?')[0]}static/{name}")
        finally:
            server.terminate()
    print("with the extra: the page, its files and the vendored JavaScript are served")


def _open(opener: urllib.request.OpenerDirector, url: str) -> str:
    with opener.open(url, timeout=60) as answer:
        text: bytes = answer.read()
    return text.decode()


def main() -> None:
    """Run the checks of one stage."""
    version, checkout, stage = sys.argv[1:]
    if stage == "bare":
        check_place(version, Path(checkout))
        check_commands()
        check_no_ui()
    else:
        check_ui()


if __name__ == "__main__":
    main()
