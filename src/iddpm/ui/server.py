"""``iddpm ui``: listens on this machine, prints the address with its token, and ends on Ctrl-C."""

import socket
import warnings
import webbrowser
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn

from iddpm.runtime.console import say
from iddpm.ui.application import build_hub, create_app
from iddpm.ui.security import TOKEN, is_loopback, new_token

GRACE = 2
"""Seconds for open requests when the server ends."""


class _Server(uvicorn.Server):
    """A server that ends its streams on a signal, so that no open page holds it up."""

    def __init__(self, config: uvicorn.Config, end: object) -> None:
        super().__init__(config)
        self._end = end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take SIGINT or SIGTERM."""
        if callable(self._end):
            self._end()
        super().handle_exit(sig, frame)


def serve(runs: Path, *, host: str = "127.0.0.1", port: int = 8479, browser: bool = True) -> None:
    """Serve the pages of a directory of runs until SIGINT or SIGTERM.

    Trainings that pages have started go on.

    Args:
        runs: the directory, made if it is missing.
        host: what to listen on; others than this machine are warned of.
        port: 0 for any free one.
        browser: open the page in one, if there is one.

    Raises:
        ValueError: the directory is a file, or the port is in use or not allowed.
    """
    if runs.exists() and not runs.is_dir():
        raise ValueError(f"{runs} is a file: give the directory of your runs")
    runs.mkdir(parents=True, exist_ok=True)
    listening = listen(host, port)
    port = listening.getsockname()[1]
    token = new_token()
    shown = host if is_loopback(host) else socket.gethostname()
    if ":" in shown:
        shown = f"[{shown}]"
    url = f"http://{shown}:{port}/?{TOKEN}={token}"
    say(url)  # alone on its line, whatever the width of the terminal
    if not is_loopback(host):
        warnings.warn(
            f"listening on {host}: whoever reaches this machine and knows the token can train, "
            f"sample and stop runs, and plain HTTP can be read on the way; prefer ssh -L "
            f"{port}:localhost:{port}",
            stacklevel=2,
        )
    say(f"runs in {runs}; the page needs the address above. Ctrl-C ends it, trainings go on")
    hub = build_hub(runs)
    app = create_app(hub, token=token, host=host, port=port)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # it would hold the token
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE,
        ws="none",
    )
    if browser:
        webbrowser.open(url)
    with suppress(KeyboardInterrupt):  # which uvicorn raises again when all has ended
        _Server(config, hub.events.end).run([listening])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ValueError: the port is in use or not allowed, or there is no such host.
    """
    try:
        facts = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = facts[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host}, port {port} ({error.strerror}): give another --port, or 0 "
            "for a free one"
        ) from None
    except OverflowError:
        raise ValueError(f"port {port} is no port: use 0 to 65535") from None
    listening.listen(128)
    return listening
