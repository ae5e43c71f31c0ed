"""The server as users start it, for tests in a browser and for pictures of the pages."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))


@contextmanager
def served(runs: Path) -> Iterator[str]:
    """Serve a directory of runs; yield the address that holds the token."""
    words = [sys.executable, "-m", "iddpm", "ui", str(runs), "--no-browser", "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    finally:
        process.kill()
        process.communicate()
