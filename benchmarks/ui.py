"""What the page costs: a run of 100,000 log records, a list of 50 runs, and a page that watches.

``python -m benchmarks.ui`` prints seconds of the processor that the server takes, bytes of the
answers, and both beside the cost of parsing that log once with the standard library, which is the
unit: the ratios compare machines.
"""

import json
import random
import tempfile
import threading
import time
from pathlib import Path

from starlette.testclient import TestClient

from iddpm.ui.application import build_hub, create_app

RECORDS, RUNS, WATCHED = 100_000, 50, 20.0
SETTINGS = "model: {channels: 1, size: [8, 8], channel_mult: [1], attention_downsampling: []}\n"
MEASURED = ("loss", "mse", "vb", "loss_q0", "loss_q1", "loss_q2", "loss_q3", "gradient_norm",
            "learning_rate", "items_per_second", "compute_share", "data_wait_share")  # fmt: skip


def line(step: int) -> str:
    """Return a record like those of training."""
    record = {"step": step, "time": time.time(), "seconds": 0.5 * step}
    record |= {name: random.random() for name in MEASURED} | {"memory_mb": 2e3, "skipped": 0}
    return json.dumps(record | ({"held_out_loss": 0.1} if step % 100 == 0 else {})) + "\n"


def write_run(directory: Path, records: int) -> None:
    """Write a run that nothing trained."""
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(f"{SETTINGS}training: {{steps: {records}}}\n")
    (directory / "log.jsonl").write_text("".join(map(line, range(1, records + 1))))


def open_pages(runs: Path) -> TestClient:
    """Return a client of a server that has read nothing yet."""
    client = TestClient(create_app(build_hub(runs), token="x"), base_url="http://127.0.0.1")
    client.cookies.set("iddpm_ui_0", "x")
    return client


def cost(client: TestClient, *paths: str) -> tuple[float, int]:
    """Return the seconds of the processor and the bytes of some answers."""
    start, size = time.process_time(), 0
    for path in paths:
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        size += len(answer.content)
    return time.process_time() - start, size


def watch(runs: Path) -> float:
    """Return the share of a core that the server takes while one page watches a growing log."""
    client, log = open_pages(runs), runs / "long" / "log.jsonl"
    cost(client, "/run?run=long", "/run/curves?run=long")
    ended = threading.Event()

    def grow() -> None:
        step = RECORDS
        while not ended.wait(0.5):
            step += 1
            with log.open("a") as file:
                file.write(line(step))

    threading.Thread(target=grow, daemon=True).start()
    index = client.app.app.state.hub.index  # type: ignore[attr-defined]
    start, end = time.process_time(), time.monotonic() + WATCHED
    head = curves = time.monotonic()
    while time.monotonic() < end:  # as static/app.js and event_stream.py do
        index.signature("long")
        if time.monotonic() - head >= 2:
            head = time.monotonic()
            client.get("/run/head?run=long")
        if time.monotonic() - curves >= 5:
            curves = time.monotonic()
            client.get("/run/curves?run=long")
        time.sleep(1)
    ended.set()
    return (time.process_time() - start) / WATCHED


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        long, many = Path(folder) / "a", Path(folder) / "b"
        write_run(long / "long", RECORDS)
        for k in range(RUNS):
            write_run(many / f"run_{k:02d}", 1000)
        start = time.process_time()
        for text in (long / "long" / "log.jsonl").read_text().splitlines():
            json.loads(text)
        unit = time.process_time() - start
        cost(open_pages(Path(folder) / "none"), "/")  # imports and templates
        print(f"parse {RECORDS:,} records with json: {unit:.2f} s")
        seconds, size = cost(open_pages(long), "/run?run=long", "/run/curves?run=long")
        print(
            f"first page of that run: {seconds:.2f} s ({seconds / unit:.2f}), {size / 1e6:.2f} MB"
        )
        client = open_pages(many)
        seconds, size = cost(client, "/")
        share = seconds / unit
        print(f"first list of {RUNS} runs: {seconds:.2f} s ({share:.2f}), {size / 1e6:.2f} MB")
        seconds, _ = cost(client, "/")
        print(f"the same list again: {seconds:.2f} s ({seconds / unit:.2f})")
        print(f"share of a core while a page watches: {100 * watch(long):.2f} %")


if __name__ == "__main__":
    main()
