import csv
import json
import os
import signal
from dataclasses import dataclass

import pytest
import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, losses
from iddpm.runtime.errors import TrainingDiverged
from iddpm.runtime.processes import Ranks
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint
from iddpm.training.checkpoints.saver import Saver
from iddpm.training.checkpoints.state import TrainState, load_weights
from iddpm.training.ema import EMA
from iddpm.training.loop import _Loop, train_loop
from iddpm.training.loop_settings import LoopSettings
from iddpm.training.monitoring.log_files import read_log
from iddpm.training.monitoring.terminal import SilentReporter, format_seconds
from iddpm.training.monitoring.throughput import Effort
from iddpm.training.precision import Precision
from iddpm.training.step import TrainStep
from iddpm.training.stop import Stop
from iddpm.training.timesteps import LossSecondMomentTimesteps


class Affine(torch.nn.Module):
    """The smallest network that can be trained."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.shift = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t):
        return self.scale * x + self.shift


def make(rates=(0.9,)):
    network = Affine()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, fused=True)
    emas = [EMA(network, rate) for rate in rates]
    timesteps = LossSecondMomentTimesteps(4)
    precision = Precision("float32", torch.device("cpu"))
    denoiser = Denoiser(network, GaussianDiffusion(cosine(4), "fixed_small"))
    state = TrainState(network, optimizer, emas, timesteps, precision)
    step = TrainStep(
        denoiser, network, losses.simple, timesteps, optimizer, emas, precision, microbatch=3
    )
    return state, step


def batches(start, stop, bad=()):
    for k in range(start, stop):
        generator = torch.Generator().manual_seed(k)
        x = torch.randn(5, 1, 4, generator=generator)
        yield (x * float("nan") if k in bad else x), {}


def settings(total, **options):
    return LoopSettings(total_steps=total, learning_rate=0.01, **options)


def run(directory, state, step, total, stop=None, bad=(), **options):
    stop = total if stop is None else stop
    return train_loop(
        directory,
        state,
        step,
        batches(state.step, stop, bad),
        settings(total, **options),
        reporter=SilentReporter(),
    )


def everything(state):
    tensors = {f"{g}/{k}": v for g, group in state.tensors().items() for k, v in group.items()}
    return tensors, state.numbers()


def test_stopping_and_resuming_equals_going_through(tmp_path):
    whole, step = make((0.9, 0.99))
    run(tmp_path / "whole", whole, step, 60)

    half, step = make((0.9, 0.99))
    run(tmp_path / "parts", half, step, 60, max_seconds=0.0)  # time is up after one step
    assert half.step == 1
    again, step = make((0.9, 0.99))
    again.restore(load_checkpoint(tmp_path / "parts"))
    run(tmp_path / "parts", again, step, 60, stop=31, save_every=31)
    last, step = make((0.9, 0.99))
    last.restore(load_checkpoint(tmp_path / "parts"))
    assert last.step == 31
    run(tmp_path / "parts", last, step, 60)

    a, b = everything(whole), everything(last)
    assert a[0].keys() == b[0].keys()
    for name, value in a[0].items():
        assert torch.equal(value, b[0][name]), name
    assert a[1] == b[1]
    assert whole.timesteps.counts.min() >= 10, "the history has to matter for this test"
    steps = [record["step"] for record in read_log(tmp_path / "parts")]
    assert steps == sorted(set(steps))


def test_checkpoints_at_intervals_and_at_the_end(tmp_path):
    state, step = make()
    assert run(tmp_path, state, step, 7, save_every=3, keep_checkpoints=9) is Stop.FINISHED
    assert [p.name[-1] for p in list_checkpoints(tmp_path)] == ["3", "6", "7"]


def test_minutes_between_checkpoints(tmp_path):
    state, step = make()
    run(tmp_path, state, step, 4, save_every=100, save_seconds=0.0, keep_checkpoints=9)
    assert len(list_checkpoints(tmp_path)) == 4


def test_one_bad_batch_is_skipped(tmp_path):
    state, step = make()
    assert run(tmp_path, state, step, 20, bad=[7], log_every=10) is Stop.FINISHED
    assert state.skipped == 1
    assert all(p.isfinite().all() for p in state.network.parameters())
    assert all(p.isfinite().all() for p in state.emas[0].network.parameters())
    assert state.emas[0].updates == 19
    assert read_log(tmp_path)[-1]["skipped"] == 1


def test_bad_batches_for_ever_stop_with_a_diagnosis(tmp_path):
    state, step = make()
    with pytest.raises(
        TrainingDiverged, match=r"4 steps in a row were skipped, up to step 14.*rate"
    ):
        run(tmp_path, state, step, 100, bad=range(10, 100), max_bad_steps=4, save_every=5)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.step == 10
    assert all(v.isfinite().all() for v in checkpoint.tensors["network"].values())


SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]


def sending(*numbers, at=5, stop=100):
    for k, batch in enumerate(batches(0, stop)):
        if k == at:
            for number in numbers:
                os.kill(os.getpid(), number)
        yield batch


def exit_file(directory):
    return json.loads((directory / "exit.json").read_text())


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_with_a_checkpoint(tmp_path, number):
    state, step = make()
    before = signal.getsignal(number)
    looked = []
    reason = train_loop(
        tmp_path,
        state,
        step,
        sending(number),
        settings(100, preview_every=5, validate_every=5),
        reporter=SilentReporter(),
        preview=lambda *_: looked.append("preview"),
        validate=lambda *_: looked.append("validate"),
    )
    assert not looked, "after a signal there is time to save and for nothing else"
    assert reason.exit_status == 128 + number
    assert load_checkpoint(tmp_path).step == state.step == 5
    assert signal.getsignal(number) is before
    assert exit_file(tmp_path) == {
        "status": 128 + number,
        "reason": f"stopped by {number.name}",
        "step": 5,
        "rank": None,
        "message": f"stopped by {number.name} at step 5",
    }


def test_a_second_signal_leaves_at_once_and_a_warning_does_not_count(tmp_path):
    state, step = make()
    with pytest.raises(KeyboardInterrupt):
        train_loop(
            tmp_path, state, step, sending(signal.SIGTERM, signal.SIGINT), settings(100),
            reporter=SilentReporter(),
        )  # fmt: skip
    assert not list_checkpoints(tmp_path)
    state, step = make()
    twice = sending(signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM)
    reason = train_loop(tmp_path, state, step, twice, settings(100), reporter=SilentReporter())
    assert reason is Stop.TERMINATED
    assert load_checkpoint(tmp_path).step == 5


def test_what_keeps_data_from_coming_ends_the_run_with_a_checkpoint(tmp_path):
    def broken():
        yield from batches(0, 7)
        raise ValueError("picture 7 is no picture")

    state, step = make()
    with pytest.raises(ValueError, match="picture 7"):
        train_loop(tmp_path, state, step, broken(), settings(100), reporter=SilentReporter())
    assert load_checkpoint(tmp_path).step == 7


def test_learning_rate_warms_up_and_anneals():
    rates = settings(10, warmup_steps=4, anneal=True)
    assert [round(rates.learning_rate_at(k) / 0.01, 6) for k in range(10)] == [
        0.25, 0.45, 0.6, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1,
    ]  # fmt: skip
    assert settings(10).learning_rate_at(9) == 0.01
    falls = settings(1000, warmup_steps=4, inverse_sqrt=True)
    shares = {0: 0.25, 50: 1, 100: 1, 200: 0.5**0.5, 400: 0.5, 900: 1 / 3}
    assert {k: falls.learning_rate_at(k) / 0.01 for k in shares} == pytest.approx(shares)


def test_previews_and_validation_at_their_intervals(tmp_path):
    state, step = make()
    seen, measured = [], []
    train_loop(
        tmp_path,
        state,
        step,
        batches(0, 10),
        settings(10, preview_every=4, validate_every=5, log_every=100),
        reporter=SilentReporter(),
        preview=lambda k, network: seen.append((k, network)),
        validate=lambda network: measured.append(network) or 0.5,
    )
    assert [k for k, _ in seen] == [4, 8, 10]
    assert all(network is state.emas[0].network for _, network in seen)
    assert len(measured) == 2
    assert [r["held_out_loss"] for r in read_log(tmp_path)] == [0.5, 0.5]


def test_log_files_hold_the_same_and_the_loss_by_quartile(tmp_path):
    state, step = make()
    run(tmp_path, state, step, 20, log_every=10)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [r["step"] for r in lines] == [10, 20]
    assert [float(r["loss"]) for r in rows] == [r["loss"] for r in lines]
    assert {"loss_q0", "loss_q1", "loss_q2", "loss_q3"} <= lines[0].keys()
    quartiles = [lines[0][f"loss_q{q}"] for q in range(4)]
    assert min(quartiles) <= lines[0]["loss"] <= max(quartiles)


def test_weights_of_another_network_are_refused():
    network = Affine()
    with pytest.raises(ValueError, match="lacks shift"):
        load_weights(network, {"scale": torch.ones(1)}, "here")
    with pytest.raises(ValueError, match=r"shift has shape \[2\] there and \[1\] here"):
        load_weights(network, {"scale": torch.ones(1), "shift": torch.ones(2)}, "here")
    weights = {"scale": torch.ones(1), "shift": torch.ones(1), "more": torch.ones(1)}
    with pytest.raises(ValueError, match="has more, which the network lacks"):
        load_weights(network, weights, "here")


def test_format_seconds():
    assert [format_seconds(s) for s in (4.4, 190, 7500)] == ["4s", "3m10s", "2h05m"]


def test_a_checkpoint_is_never_ahead_of_the_log(tmp_path, monkeypatch):
    """A kill right after a checkpoint would otherwise lose the record of its step for good."""
    original, seen = Saver.save, []

    def save(self, step, *rest, **options):
        seen.append((step, read_log(tmp_path)[-1]))
        original(self, step, *rest, **options)

    monkeypatch.setattr(Saver, "save", save)
    state, step = make()
    train_loop(
        tmp_path, state, step, batches(0, 6),
        settings(6, log_every=1, save_every=2, validate_every=3),
        reporter=SilentReporter(), validate=lambda network: 1 / state.step,
    )  # fmt: skip
    assert [step for step, _ in seen] == [2, 3, 4, 6]
    assert all(record["step"] == step for step, record in seen)
    assert [record.get("held_out_loss") for _, record in seen] == [None, 1 / 3, None, 1 / 6]


@dataclass(frozen=True)
class AsIfTwo(Ranks):
    """Two processes, of which the other says something of its own."""

    def gathered(self, value):
        return [value, value | {"data_wait_share": 0.75, "memory_mb": 1e6}]


class Clock:
    """Time that passes only where a test lets it: a module's ``time`` with this ``monotonic``."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        for module in ("loop", "monitoring.records"):
            monkeypatch.setattr(f"iddpm.training.{module}.time", self)

    def monotonic(self):
        return self.now

    time = monotonic

    def passes(self, seconds, then):
        """Return the function with so much time before it."""

        def later(*arguments, **options):
            self.now += seconds
            return then(*arguments, **options)

        return later


def test_a_record_is_of_all_ranks(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    state, step = make()
    effort = Effort(state.precision)
    effort._most = 1000.0  # items a second that this process could do
    ranks = AsIfTwo(count=2)
    loop = _Loop(tmp_path, state, step, settings(2), ranks, {"reporter": SilentReporter()})
    loop.effort = effort
    clock.now = 2.0  # and half a second more for the batch
    read = iter([next(batches(0, 1))])
    loop._learn(*loop._fetch(clock.passes(0.5, read.__next__)() for _ in range(1)))
    record = loop._measured()
    assert record["step"] == 1
    assert record["items_per_second"] == pytest.approx(5 / 2.5)
    assert record["ranks"]["data_wait_share"] == [pytest.approx(0.2), 0.75]
    assert (record["data_wait_share"], record["memory_mb"]) == (0.75, 1e6)
    # Each process learns from half of the items of the global batch.
    assert record["compute_share"] == pytest.approx(record["items_per_second"] / 2 / 1000)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [((0.01, 0.1), (1, 10)), ((0.1, 0.01), (10, 1)), ((0.03, 0.06), (1, 2)), ((0.0, 0.5), (0, 1))],
)
def test_parameter_groups_keep_the_ratio_of_their_learning_rates(tmp_path, rates, expected):
    state, step = make()
    scale, shift = state.network.parameters()
    groups = [{"params": [p], "lr": r} for p, r in zip((scale, shift), rates, strict=True)]
    state.optimizer = step.optimizer = torch.optim.AdamW(groups)
    run(tmp_path, state, step, 1, warmup_steps=4)
    now = [group["lr"] for group in state.optimizer.param_groups]
    assert now == pytest.approx([0.01 / 4 * e for e in expected])
    run(tmp_path, state, step, 3, warmup_steps=4)  # another session with the same optimizer
    now = [group["lr"] for group in state.optimizer.param_groups]
    assert now == pytest.approx([0.01 * 3 / 4 * e for e in expected])
