"""Training from the outside: what a user starts, stops, resumes and finds."""

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import iddpm
from iddpm.runtime.processes import ALONE
from iddpm.tasks.train import train_until_stop
from iddpm.tasks.training_setup import TrainRequest, choose, open_training
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint
from iddpm.training.monitoring.log_files import read_log
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.training.stop import Stop
from tests.conftest import final_tensors, wait_until

EXACT = (
    "training.ema_rates=[0.9,0.99]",
    "training.timestep_sampler=loss_second_moment",
    "diffusion.num_steps=4",  # so that the history is full and matters
    "model.dropout=0.2",
    "data.flip=true",
    "training.keep_checkpoints=9",
)


def train(data, out, settings, **options):
    return iddpm.train(data, out=out, settings=settings, reporter=SilentReporter(), **options)


QUALITY = (
    "diffusion.predicts=edm",
    "diffusion.zero_terminal_snr=true",
    "diffusion.self_condition=true",
    "training.timestep_sampler=low_discrepancy",
    "training.posthoc_ema=true",
    "model.dropout=0.2",
    "training.keep_checkpoints=1",
    "training.validate_every=10",
    "data.held_out=0.2",
)


@pytest.mark.parametrize("exact", [EXACT, QUALITY])
def test_resume_equals_going_through_bit_for_bit(tmp_path, array_file, tiny, exact):
    options = [*tiny, *exact, "training.steps=40"]
    train(array_file, tmp_path / "whole", options)

    # Stopped by a checkpoint's copy at 20 rather than by a signal, so that the step is certain.
    train(
        array_file,
        tmp_path / "parts",
        [*options, "training.save_every=20", "training.keep_checkpoints=9"],
    )
    for path in list_checkpoints(tmp_path / "parts"):
        if path.name > "step_00000020" and path.name != "step_00000040":
            shutil.rmtree(path)
    shutil.rmtree(tmp_path / "parts/checkpoints/step_00000040")
    assert load_checkpoint(tmp_path / "parts").step == 20
    train(None, tmp_path / "parts", [], resume=True)

    a, b = final_tensors(tmp_path / "whole", 40), final_tensors(tmp_path / "parts", 40)
    assert a.keys() == b.keys()
    learns = exact is EXACT
    assert any(name.startswith("timesteps/" if learns else "power_0.05/") for name in a)
    assert any(name.startswith("ema_0.99/" if learns else "ema_0.9999/") for name in a)
    for name in a:
        assert torch.equal(a[name], b[name]), name
    states = [load_checkpoint(tmp_path / d, 40).state for d in ("whole", "parts")]
    assert states[0] == states[1]
    snapshots = [sorted((tmp_path / d / "averages").glob("*")) for d in ("whole", "parts")]
    assert len(snapshots[0]) == (0 if learns else 20)
    for one, other in zip(*snapshots, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()
    if not learns:
        assert len({(tmp_path / d / "best").read_text() for d in ("whole", "parts")}) == 1
        lengths = [iddpm.load(tmp_path / d, ema_length=0.07).sample(2) for d in ("whole", "parts")]
        assert torch.equal(*lengths)


def test_run_directory_has_its_final_form(tmp_path, array_file, tiny):
    out = tmp_path / "run"
    train(
        array_file,
        out,
        [*tiny, "training.steps=6", "training.preview_every=3", "training.validate_every=3"],
    )
    files = "config.yaml latest best model.safetensors log.jsonl log.csv lock"
    for name in files.split():
        assert (out / name).is_file(), name
    assert [p.name for p in list_checkpoints(out)][-1] == "step_00000006"
    assert sorted(p.name for p in (out / "samples").iterdir()) == [
        "step_00000003.png", "step_00000006.png",
    ]  # fmt: skip
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [3, 5, 6]
    assert "held_out_loss" in records[-1]
    released = load_file(out / "model.safetensors")
    average = load_checkpoint(out).tensors["ema_0.9999"]
    assert all(torch.equal(released[name], average[name]) for name in average)
    config = iddpm.Run(out).config
    assert config.model.size == (8, 8)
    assert config.model.channels == 1
    assert config.training.batch_size == 8


def test_an_existing_directory_is_refused_with_both_ways_on(tmp_path, array_file, tiny):
    out = tmp_path / "run"
    train(array_file, out, [*tiny, "training.steps=2"])
    with pytest.raises(FileExistsError, match=r"--resume.*--out"):
        train(array_file, out, [*tiny, "training.steps=2"])


def test_resume_of_nothing_is_refused(tmp_path, array_file, tiny):
    with pytest.raises(FileNotFoundError, match="no run in"):
        train(array_file, tmp_path / "none", tiny, resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(ValueError, match="not a run directory"):
        train(array_file, tmp_path / "other", tiny, resume=True)


def test_resume_may_train_longer_but_not_become_another_model(tmp_path, array_file, tiny):
    out = tmp_path / "run"
    train(array_file, out, [*tiny, "training.steps=2"])
    with pytest.raises(ValueError, match=r"another model\.model_channels.*--init-from"):
        train(None, out, ["model.model_channels=16"], resume=True)
    with pytest.raises(ValueError, match="averages at the rates"):
        train(None, out, ["training.ema_rates=[0.5]"], resume=True)
    with pytest.raises(ValueError, match=r"optimizer=adamw, whose state .* muon.*--init-from"):
        train(None, out, ["training.optimizer=muon"], resume=True)
    with pytest.raises(ValueError, match=r"lengths none, and .* change them to 0\.05, 0\.1"):
        train(None, out, ["training.posthoc_ema=true"], resume=True)
    train(None, out, ["training.steps=4"], resume=True)
    assert load_checkpoint(out).step == 4
    train(None, out, [], resume=True)  # finished already: nothing happens
    assert load_checkpoint(out).step == 4


def test_init_from_takes_the_weights_alone(tmp_path, array_file, tiny):
    first = train(array_file, tmp_path / "first", [*tiny, "training.steps=5"])
    second, reason = train_until_stop(
        TrainRequest(
            array_file,
            out=tmp_path / "second",
            init_from=tmp_path / "first",
            settings=[*tiny, "training.steps=1", "training.learning_rate=1e-12", "training.seed=5"],
            reporter=SilentReporter(),
        )
    )
    assert reason is Stop.FINISHED
    assert load_checkpoint(tmp_path / "second").step == 1
    for a, b in zip(first.denoiser.parameters(), second.denoiser.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match="belongs to a network of another size"):
        train(
            array_file,
            tmp_path / "third",
            [*tiny, "model.model_channels=16"],
            init_from=tmp_path / "first",
        )
    assert not (tmp_path / "third").exists()


def test_held_out_items_are_never_trained_on(tmp_path, array_file, tiny, monkeypatch):
    seen = set()
    from iddpm.data import batches

    original = batches.Batches.__getitem__

    def spy(self, step):
        batch = original(self, step)
        seen.update(batch.items.tolist())
        return batch

    monkeypatch.setattr(batches.Batches, "__getitem__", spy)
    train(array_file, tmp_path / "run", [*tiny, "training.steps=30", "data.held_out=0.3"])
    from iddpm.data.sources.open import open_source
    from iddpm.data.split import held_out_mask

    mask = held_out_mask(open_source(array_file), 0.3)
    assert 0 < mask.sum() < 60
    assert seen == set(np.flatnonzero(~mask).tolist())


def test_epochs_give_the_length(tmp_path, array_file, tiny):
    train(array_file, tmp_path / "run", [*tiny, "training.epochs=2", "data.held_out=0"])
    assert load_checkpoint(tmp_path / "run").step == 15  # 2 x 60 / 8
    train(None, tmp_path / "run", ["training.steps=16"], resume=True)
    assert load_checkpoint(tmp_path / "run").step == 16


def test_a_time_limit_is_for_one_session(tmp_path, array_file, tiny, capsys):
    out = tmp_path / "run"
    short = ["training.steps=5", "training.max_time=0.001"]
    iddpm.train(array_file, out=out, settings=[*tiny, *short])
    assert load_checkpoint(out).step == 1
    ended = f"time is up at step 1 of 5; the run is in {out}: iddpm train --resume --out {out}"
    assert ended in capsys.readouterr().out
    iddpm.train(out=out, resume=True)
    assert load_checkpoint(out).step == 5
    assert f"finished at step 5; the run is in {out}\n" in capsys.readouterr().out


class HalfSeconds(SilentReporter):
    """Let half a second pass in each step, on a clock that only this moves; stop at a step."""

    def __init__(self, monkeypatch, at=None):
        self.now, self.at, self.lines = 100.0, at, []
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def advance(self, step):
        self.now += 0.5
        if step == self.at:
            os.kill(os.getpid(), signal.SIGINT)

    def say(self, message):
        self.lines.append(message)


def test_a_time_limit_sets_the_number_of_steps_and_the_anneal(
    tmp_path, array_file, tiny, monkeypatch
):
    out, limit = tmp_path / "run", "training.max_time=10s"
    reporter = HalfSeconds(monkeypatch, at=12)
    settings = [*tiny, limit, "training.anneal=null"]
    with pytest.raises(KeyboardInterrupt):
        iddpm.train(array_file, out=out, settings=settings, reporter=reporter)
    assert "planned 20 steps in 10 s, 0.50 s each: the learning rate falls until then" in (
        reporter.lines
    )
    text = (out / "config.yaml").read_text()
    assert "steps: 20\n" in text, "what reads the settings knows how long it takes"
    assert "max_time: null" in text
    reporter = HalfSeconds(monkeypatch)
    iddpm.train(out=out, resume=True, settings=[limit], reporter=reporter)
    checkpoint = load_checkpoint(out)
    assert (checkpoint.step, checkpoint.state["plan"]["end"]) == (20, 20)
    assert checkpoint.state["plan"]["spent"] == 10
    assert iddpm.load(out).config.training.steps == 20
    rates = {r["step"]: r["learning_rate"] for r in read_log(out)}
    assert rates[20] == pytest.approx(1e-3 / 15)
    assert any(line.startswith("finished at step 20;") for line in reporter.lines)
    iddpm.train(out=out, resume=True, settings=["training.steps=22"], reporter=SilentReporter())
    assert load_checkpoint(out).step == 22


def test_the_same_steps_and_time_again_are_planned_again(tmp_path, array_file, tiny, monkeypatch):
    out = tmp_path / "run"
    settings = ["training.steps=90", "training.max_time=5s", "training.anneal=linear"]
    for resume in (False, True):  # such as by the same command, to which --resume was added
        iddpm.train(
            None if resume else array_file,
            out=out,
            resume=resume,
            settings=settings if resume else [*tiny, *settings],
            reporter=HalfSeconds(monkeypatch),
        )
    assert load_checkpoint(out).step == 20
    rates = {r["step"]: r["learning_rate"] for r in read_log(out)}
    assert rates[20] == pytest.approx(rates[15] / 6), "it falls to 0 at the end"


@pytest.mark.parametrize(("parallel", "kernels"), [("ddp", "fast"), ("fsdp", "plain")])
def test_sharded_networks_are_written_down_with_the_kernels_they_have(
    tmp_path, array_file, tiny, parallel, kernels
):
    settings = [*tiny, "training.device=cpu", f"training.parallel={parallel}"]
    request = TrainRequest(array_file, out=tmp_path / "run", settings=settings)
    opened = open_training(request, ALONE)
    ranks = SimpleNamespace(count=2, by_first=lambda find: find())
    chosen, _ = choose(opened, ranks)
    assert chosen.config.training.kernels == kernels


def test_a_small_set_gets_a_batch_that_fits(tmp_path, tiny):
    np.save(tmp_path / "few.npy", np.zeros((5, 8, 8), np.uint8))
    options = [s for s in tiny if "batch_size" not in s]
    train(tmp_path / "few.npy", tmp_path / "run", [*options, "training.steps=1", "data.held_out=0"])
    assert iddpm.Run(tmp_path / "run").config.training.batch_size == 5


@pytest.mark.parametrize(
    ("shape", "layout"), [((20, 3, 16), "NCL"), ((20, 1, 3, 8, 8), "NCDHW"), ((20, 9, 7, 4), None)]
)
def test_signals_volumes_and_odd_pictures_train_and_sample(tmp_path, tiny, shape, layout):
    generator = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", generator.integers(0, 256, shape, dtype=np.uint8))
    layouts = [f"data.layout={layout}"] if layout else []
    run = train(tmp_path / "x.npy", tmp_path / "run", [*tiny, *layouts, "training.steps=2"])
    assert run.sample(2, steps=2).shape == (2, *run.shape)


def test_continuous_data_trains(tmp_path, tiny):
    x = np.random.default_rng(0).uniform(-1, 1, (20, 1, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    run = train(
        tmp_path / "x.npy", tmp_path / "run", [*tiny, "data.layout=NCL", "training.steps=2"]
    )
    assert run.config.bits is None


def test_labels_must_be_there_for_a_conditional_model(tmp_path, array_file, tiny):
    with pytest.raises(ValueError, match=r"needs labels.*data\.labels"):
        train(
            array_file,
            tmp_path / "run",
            [*tiny, "model.class_conditional=true", "data.labels=none"],
        )
    with pytest.raises(ValueError, match=r"model\.num_classes=7 is set.*has 3"):
        train(
            array_file,
            tmp_path / "run",
            [*tiny, "model.class_conditional=true", "model.num_classes=7"],
        )
    assert not (tmp_path / "run").exists()


def test_the_environment_is_left_alone(tmp_path, array_file, tiny, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    before = dict(os.environ)
    train(array_file, tmp_path / "run", [*tiny, "training.steps=1"])
    assert dict(os.environ) == before


def test_checkpointing_by_recomputation_changes_nothing(tmp_path, array_file, tiny):
    for name, value in (("off", "false"), ("on", "true")):
        train(
            array_file,
            tmp_path / name,
            [*tiny, "training.steps=4", "model.dropout=0.3", f"model.use_checkpoint={value}"],
        )
    a, b = final_tensors(tmp_path / "off", 4), final_tensors(tmp_path / "on", 4)
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_workers_change_nothing(tmp_path, array_file, tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking in a threaded test runner
        for name, workers in (("none", 0), ("two", 2)):
            train(
                array_file,
                tmp_path / name,
                [*tiny, "training.steps=4", "data.flip=true", f"data.workers={workers}"],
            )
    a, b = final_tensors(tmp_path / "none", 4), final_tensors(tmp_path / "two", 4)
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signalled_process_saves_and_says_so_by_its_status(tmp_path, array_file, tiny, number):
    """Also where all of its processes get the signal, as from a terminal or from torchrun."""
    out = tmp_path / "run"
    command = [sys.executable, "-c", "from iddpm.cli.main import main; main()", "train"]
    options = [item for setting in (*tiny, "data.workers=1") for item in ("-s", setting)]
    process = subprocess.Popen(
        [*command, str(array_file), "--out", str(out), "--steps", "1000000", *options],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = out / "log.jsonl"
    wait_until(lambda: log.is_file() and log.read_text(), process)
    os.killpg(process.pid, number)
    output, _ = process.communicate()
    assert process.returncode == 128 + number
    assert str(out) in output
    step = load_checkpoint(out).step
    assert step > 0
    assert (out / "latest").read_text().strip() == f"step_{step:08d}"
    said = json.loads((out / "exit.json").read_text())
    assert (said["status"], said["step"]) == (process.returncode, step)
    with pytest.raises(ProcessLookupError):  # no worker is left
        os.killpg(process.pid, 0)


def test_labels_are_hidden_by_a_function_of_the_step(array_file):
    from iddpm.builders.run_data import without_some_labels
    from iddpm.config import read_config
    from iddpm.data.batches import Batches
    from iddpm.data.sources.open import open_source

    source = open_source(array_file)
    config = read_config(None, ["model.class_conditional=true", "training.label_dropout=0.25"])

    def labels(start, config=config):
        batches = Batches(source, batch_size=20, seed=0, start_step=start, stop_step=60)
        return torch.stack([b.y for b in without_some_labels(batches, config)])

    hidden = labels(0)
    assert torch.equal(hidden[40:], labels(40))
    assert 0.2 < float((hidden == -1).double().mean()) < 0.3
    whole = labels(0, read_config(None, ["model.class_conditional=false"]))
    assert whole.min() >= 0
    assert torch.equal(whole[hidden >= 0], hidden[hidden >= 0])
