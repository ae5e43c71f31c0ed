import sys
import threading
import types
from importlib.machinery import ModuleSpec

import pytest

import iddpm
from iddpm.training.monitoring.log_files import LogFiles, read_log
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.training.monitoring.trackers import WeightsAndBiases, check_trackers, open_trackers

RECORD = {
    "step": 5,
    "time": 1.0,
    "loss": 0.5,
    "skipped": 2,
    "ranks": {"memory_mb": [1.0]},
}


class FakeRun:
    def __init__(self, id):
        self.id = id
        self.heard = []
        self.finished = threading.Event()
        self.metrics = []

    def define_metric(self, name, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, record):
        self.heard.append(record)

    def finish(self):
        self.finished.set()


@pytest.fixture
def wandb(monkeypatch):
    """A module in the place of wandb that records its requests."""
    module = types.ModuleType("wandb")
    module.requests, module.runs = [], []

    def init(**options):
        module.requests.append(options)
        module.runs.append(FakeRun(options["id"] or "new"))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_hears_the_curves_and_a_resumed_run_goes_on_there(tmp_path, wandb):
    for step in (5, 10):
        log = LogFiles(
            tmp_path,
            start_step=step - 5,
            trackers=[WeightsAndBiases(tmp_path, "digits", {"training": {"seed": 3}})],
        )
        log.write(RECORD | {"step": step})
        log.close()
    assert [run.heard for run in wandb.runs] == [
        [{"step": step, "loss": 0.5, "skipped": 2}] for step in (5, 10)
    ]
    assert all(run.finished.is_set() for run in wandb.runs)
    assert wandb.runs[0].metrics == [("*", "step")]
    first, second = wandb.requests
    assert (first["project"], first["name"], first["id"]) == ("digits", tmp_path.name, None)
    assert first["config"] == {"training": {"seed": 3}}
    assert (second["id"], second["resume"]) == ("new", "allow")


def test_a_wandb_that_fails_ends_nothing(tmp_path, wandb):
    def init(**options):
        raise RuntimeError("api key not configured")

    wandb.init = init
    tracker = WeightsAndBiases(tmp_path, "digits", {})
    tracker._thread.join()
    log = LogFiles(tmp_path, trackers=[tracker])
    with pytest.warns(UserWarning, match=r"Weights & Biases gets no more.*api key"):
        log.write(RECORD)
    log.write(RECORD | {"step": 6})
    log.close()
    assert [r["step"] for r in read_log(tmp_path)] == [5, 6]


def test_a_wandb_that_hangs_holds_nothing_up(tmp_path, wandb):
    answer = threading.Event()
    wandb.init = lambda **options: answer.wait()
    log = LogFiles(tmp_path, trackers=[WeightsAndBiases(tmp_path, "digits", {}, patience=0.1)])
    log.write(RECORD)
    with pytest.warns(UserWarning, match=r"the last ones were not sent within 0\.1 s"):
        log.close()  # which would wait for ever
    answer.set()


def test_what_is_not_installed_is_refused_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setattr("iddpm.training.monitoring.trackers.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"training\.wandb=digits needs .*iddpm\[wandb\]"):
        check_trackers(tensorboard=False, wandb="digits")
    with pytest.raises(ValueError, match=r"training\.tensorboard=true needs .*\[tensorboard\]"):
        check_trackers(tensorboard=True, wandb=None)
    check_trackers(tensorboard=False, wandb=None)


def test_a_run_that_asks_for_what_is_missing_writes_nothing(
    tmp_path, array_file, tiny, monkeypatch
):
    monkeypatch.setattr("iddpm.training.monitoring.trackers.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs Weights & Biases"):
        iddpm.train(array_file, out=tmp_path / "run", settings=[*tiny, "training.wandb=digits"])
    assert not (tmp_path / "run").exists()


def test_a_run_tells_wandb_its_settings_and_its_records(tmp_path, array_file, tiny, wandb):
    wandb.__spec__ = ModuleSpec("wandb", None)  # as an installed one has
    iddpm.train(
        array_file,
        out=tmp_path / "run",
        settings=[*tiny, "training.steps=10", "training.wandb=digits"],
        reporter=SilentReporter(),
    )
    assert wandb.requests[0]["config"]["training"]["steps"] == 10
    assert [record["step"] for record in wandb.runs[0].heard] == [5, 10]
    assert wandb.runs[0].heard[0]["loss"] > 0
    assert wandb.runs[0].finished.is_set()


def test_tensorboard_gets_every_number_and_hides_what_a_resume_repeats(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, loss in ((0, 1.0), (5, 2.0)):
        trackers = open_trackers(tmp_path, start, tensorboard=True, wandb=None, settings={})
        log = LogFiles(tmp_path, start_step=start, trackers=trackers)
        for step in range(start + 5, 15, 5):
            log.write(RECORD | {"step": step, "loss": loss})
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["loss", "skipped"]
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(5, 1.0), (10, 2.0)]
    assert [e.value for e in events.Scalars("skipped")] == [2, 2]


def test_an_event_file_that_cannot_be_opened_ends_nothing(tmp_path):
    (tmp_path / "tensorboard").write_text("in the way")
    with pytest.warns(UserWarning, match="TensorBoard gets no records"):
        trackers = open_trackers(tmp_path, 0, tensorboard=True, wandb=None, settings={})
    assert trackers == []
