"""Runs to be looked at, and a client that has the token."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import iddpm
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.ui.application import build_hub, create_app
from iddpm.ui.hub import Hub
from tests.conftest import TINY, images

TOKEN = "t0ken-of-the-tests"
SCRIPT = "<img src=x onerror=alert(1)>"
"""The name of a class, of a file and of a run."""
BASE = "http://127.0.0.1:8479"


def write_run(directory: Path, count: int = 3, **exit_said: object) -> Path:
    """Write a run directory that nothing trained: settings and ``count`` records of a log."""
    directory.mkdir(parents=True)
    model = "{channels: 1, size: [8, 8], channel_mult: [1], attention_downsampling: []}"
    (directory / "config.yaml").write_text(
        f"model: {model}\ntraining:\n  steps: 1000\n  batch_size: 10\n"
    )
    (directory / "log.jsonl").write_text("".join(map(record_line, range(1, count + 1))))
    if exit_said:
        (directory / "exit.json").write_text(json.dumps(exit_said))
    return directory


def record_line(k: int) -> str:
    record = {"step": 10 * k, "time": time.time(), "seconds": 2.0 * k, "loss": 1 / k}
    quarters = {f"loss_q{q}": (q + 1) / k for q in range(4)}
    more = {"gradient_norm": 0.5, "learning_rate": 1e-3, "items_per_second": 50.0, "memory_mb": 9.0}
    held_out = {"held_out_loss": 1.5 / k} if k % 3 == 0 else {}
    return json.dumps(record | quarters | more | held_out) + "\n"


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one trained run of classes, one of which is named like a script."""
    folder = tmp_path_factory.mktemp("ui")
    for number, picture in enumerate(images(24)[..., 0]):
        label = (SCRIPT, "plain")[number % 2]
        (folder / "data" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / "data" / label / f"{number}.png")
    iddpm.train(
        folder / "data",
        out=folder / "runs" / "pictures",
        reporter=SilentReporter(),
        settings=[
            *TINY,
            "model.class_conditional=true",
            "training.steps=4",
            "training.log_every=1",
            "training.preview_every=2",
            "training.save_every=2",
        ],
    )
    return folder / "runs"


@pytest.fixture(scope="session")
def signal_and_volume(trained_runs: Path) -> Path:
    """The same directory, with a run of signals and one of volumes beside it."""
    generator = np.random.default_rng(0)
    kinds = {"signals": (20, 2, 64), "volumes": (12, 1, 8, 8, 8)}
    for name, shape in kinds.items():
        path = trained_runs.parent / f"{name}.npy"
        np.save(path, generator.uniform(-1, 1, shape).astype(np.float32))
        layout = "NCL" if name == "signals" else "NCDHW"
        iddpm.train(
            path,
            out=trained_runs / name,
            reporter=SilentReporter(),
            settings=[*TINY, "training.steps=1", f"data.layout={layout}"],
        )
    return trained_runs


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """The pages of a directory without runs."""
    (tmp_path / "runs").mkdir()
    hub = build_hub(tmp_path / "runs")
    yield hub
    hub.jobs.close()


def open_client(hub: Hub, token: str = TOKEN, **options: object) -> TestClient:
    app = create_app(hub, token=TOKEN, port=8479)
    client = TestClient(app, base_url=BASE, raise_server_exceptions=False)
    client.follow_redirects = False
    if token:
        client.cookies.set("iddpm_ui_8479", token)
    return client


@pytest.fixture
def client(hub: Hub) -> TestClient:
    """A client with the token."""
    return open_client(hub)


@pytest.fixture
def root(hub: Hub) -> Path:
    """The directory of the runs of :func:`hub`."""
    return hub.index.root
