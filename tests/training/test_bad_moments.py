"""Steps that go wrong in the loop: not finite, spikes, memory that runs out."""

import itertools
import json

import pytest
import torch

from iddpm.runtime.errors import OutOfMemory, TrainingDiverged
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint, step_of
from iddpm.training.loop import train_loop
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.training.spikes import SpikeGuard
from tests.training.test_loop import batches, everything, make, run, settings


class Listener(SilentReporter):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


def bad_steps(directory):
    lines = (directory / "bad_steps.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def same(a, b):
    (tensors, numbers), (others, other_numbers) = everything(a), everything(b)
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        assert torch.equal(value, others[name]), name
    assert numbers == other_numbers


def test_a_bad_item_is_named_and_the_first_is_reported(tmp_path):
    def one_bad_item():
        for k, (x, conditioning) in enumerate(batches(0, 12)):
            if k in (4, 8):
                x[2] = float("nan")
            yield x, conditioning

    state, step = make()
    listener = Listener()
    train_loop(
        tmp_path, state, step, one_bad_item(), settings(12), reporter=listener,
        name_items=lambda step, rows: [(10 * step + row, f"item {row}") for row in rows],
    )  # fmt: skip
    assert state.skipped == 2
    records = bad_steps(tmp_path)
    assert [(r["step"], r["cause"], r["bad_items"]) for r in records] == [
        (5, "loss", 1), (9, "loss", 1)
    ]  # fmt: skip
    assert [(r["items"][0]["index"], r["items"][0]["key"]) for r in records] == [
        (42, "item 2"), (82, "item 2")
    ]  # fmt: skip
    messages = [message for message in listener.said if "skipped" in message]
    assert len(messages) == 1
    assert "item 2" in messages[0]
    assert "bad_steps.jsonl" in messages[0]


def test_a_row_of_bad_steps_is_not_saved_before_it_ends(tmp_path):
    state, step = make()
    run(tmp_path, state, step, 20, bad=[8, 9, 10], save_every=5, keep_checkpoints=9)
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [5, 12, 15, 20]


def test_a_run_that_diverged_can_be_taken_up_before_the_row(tmp_path):
    state, step = make()
    with pytest.raises(TrainingDiverged, match=r"where the loss of 5 of 5 items is not finite"):
        run(tmp_path, state, step, 100, bad=range(10, 100), max_bad_steps=4, save_every=1)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.step == 10
    assert checkpoint.state["bad_in_a_row"] == 0
    again, step = make()
    again.restore(checkpoint)
    run(tmp_path, again, step, 30, bad=[10, 11, 12], max_bad_steps=4)
    assert (again.step, again.skipped) == (30, 3)


def spiky(start, stop):
    for k, (x, conditioning) in enumerate(batches(start, stop), start):
        yield x * 1e3 if k in (50, 70) else x, conditioning


def guarded(limit):
    state, step = make()
    step.guard = state.guard = SpikeGuard(limit) if limit else None
    return state, step


def test_spikes_are_left_out_and_resuming_with_their_guard_is_exact(tmp_path):
    def go(name, state, step, stop):
        train_loop(
            tmp_path / name, state, step, spiky(state.step, stop), settings(80, save_every=60),
            reporter=SilentReporter(),
        )  # fmt: skip

    whole, step = guarded(20.0)
    go("whole", whole, step, 80)
    assert whole.skipped == 2
    assert whole.emas[0].updates == 78
    assert [(r["step"], r["cause"]) for r in bad_steps(tmp_path / "whole")] == [
        (51, "spike"), (71, "spike")
    ]  # fmt: skip

    half, step = guarded(20.0)
    go("parts", half, step, 60)
    again, step = guarded(20.0)
    again.restore(load_checkpoint(tmp_path / "parts"))
    assert again.step == 60
    go("parts", again, step, 80)
    same(whole, again)
    assert bad_steps(tmp_path / "parts") == bad_steps(tmp_path / "whole")

    unguarded, step = guarded(None)
    go("off", unguarded, step, 80)
    assert unguarded.skipped == 0
    assert not (tmp_path / "off/bad_steps.jsonl").exists()


GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


def scarce(step, room, error=GPU, after=0):
    """Let the network of a step run out of memory above ``room`` items, after some calls."""
    calls = itertools.count()

    def check(network, inputs):
        if next(calls) >= after and len(inputs[0]) > room:
            raise error

    step.network.register_forward_pre_hook(check)


@pytest.mark.parametrize(("microbatch", "now"), [(None, 2), (100, 2), (3, 2), (2, 2)])
def test_a_halved_microbatch_does_the_same_steps(tmp_path, microbatch, now):
    expected, step = make()
    step.microbatch = now
    run(tmp_path / "small", expected, step, 15)

    state, step = make()
    step.microbatch, step.halve = microbatch, True
    scarce(step, 2)
    listener = Listener()
    train_loop(tmp_path, state, step, batches(0, 15), settings(15), reporter=listener)
    same(expected, state)
    said = [message for message in listener.said if "memory" in message]
    assert said == (
        []
        if microbatch == now
        else ["step 1 ran out of memory: training.microbatch is now 2, until this process ends"]
    )


def test_memory_that_runs_out_later_costs_nothing_but_the_size(tmp_path):
    expected, step = make()
    step.microbatch = 5
    run(tmp_path, expected, step, 7)
    step.microbatch = 3
    run(tmp_path, expected, step, 15)

    state, step = make()
    step.microbatch, step.halve = 5, True
    run(tmp_path, state, step, 7)
    scarce(step, 3)
    run(tmp_path, state, step, 15)
    same(expected, state)


@pytest.mark.parametrize(
    ("room", "halve", "message"),
    [(2, False, r"with 3 items at a time: .*microbatch=1, or .*halve"), (0, True, "with 1 items")],
)
def test_memory_that_runs_out_for_good_saves_and_says_what_to_do(tmp_path, room, halve, message):
    state, step = make()
    step.halve = halve
    scarce(step, room, CPU, after=14)  # in the 8th step, of two microbatches
    with pytest.raises(OutOfMemory, match=message):
        run(tmp_path, state, step, 20)
    assert load_checkpoint(tmp_path).step == 7


def test_other_errors_are_not_taken_for_memory(tmp_path):
    state, step = make()
    step.halve = True
    scarce(step, 0, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(tmp_path, state, step, 20)
