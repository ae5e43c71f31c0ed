import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import torch

from iddpm.runtime.errors import NotSaved
from iddpm.runtime.processes import Ranks
from iddpm.training.checkpoints import commit
from iddpm.training.checkpoints import saver as saving
from iddpm.training.checkpoints.best import NOTHING, Best, read_best
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint, step_of
from iddpm.training.checkpoints.saver import Saver


def state(value=1.0):
    return {"network": {"w": torch.full((2, 3), value)}, "optimizer": {"step/w": torch.ones(())}}


def steps(directory):
    return [step_of(path) for path in list_checkpoints(directory)]


def hidden(directory):
    return sorted(p.name for p in (directory / "checkpoints").glob(".*"))


@pytest.fixture
def gate(monkeypatch):
    """Hold the writer back until the event is set."""
    event = threading.Event()
    original = commit.write_weights

    def held(path, named, **options):
        event.wait()
        return original(path, named, **options)

    monkeypatch.setattr(commit, "write_weights", held)
    yield event
    event.set()


def test_what_is_saved_is_what_was_there_when_save_was_called(tmp_path, gate):
    tensors = state(1.0)
    saver = Saver(tmp_path, keep=3)
    for value in (1.0, 2.0):
        tensors["network"]["w"].fill_(value)
        gate.clear()
        saver.save(int(value), tensors, {"value": value})
        tensors["network"]["w"].fill_(9.0)
        gate.set()
        saver.wait()
        loaded = load_checkpoint(tmp_path)
        assert torch.equal(loaded.tensors["network"]["w"], torch.full((2, 3), value))
        assert loaded.state["value"] == value


def test_save_returns_before_it_is_written_and_the_next_one_waits(tmp_path, gate):
    saver = Saver(tmp_path, keep=3)
    saver.save(1, state(), {})
    assert steps(tmp_path) == []
    threading.Timer(0.2, gate.set).start()
    saver.save(2, state(), {})
    assert 1 in steps(tmp_path)
    saver.finish()
    assert steps(tmp_path) == [1, 2]
    assert hidden(tmp_path) == []
    assert (tmp_path / "latest").read_text() == "step_00000002\n"


def test_rotation_keeps_the_newest_and_the_best(tmp_path):
    saver = Saver(tmp_path, keep=2)
    for step in range(1, 6):
        saver.save(step, state(), {})
        if step == 2:
            saver.prefer(Best(2, 1.0))
    saver.finish()
    assert steps(tmp_path) == [2, 4, 5]
    assert read_best(tmp_path) == 2


def test_rotation_does_not_count_later_ones_that_were_passed_over(tmp_path):
    first = Saver(tmp_path, keep=9)
    for step in (10, 20, 30):
        first.save(step, state(), {})
    first.finish()
    for step in (20, 30):
        (tmp_path / f"checkpoints/step_000000{step}/network.safetensors").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="step_00000030 is damaged.*using step_00000010"):
        assert load_checkpoint(tmp_path).step == 10
    again = Saver(tmp_path, keep=2, step=10)
    again.save(15, state(), {})
    again.finish()
    with pytest.warns(UserWarning, match="using step_00000015"):
        assert load_checkpoint(tmp_path).step == 15
    for step in (20, 25, 30):
        again.save(step, state(2.0), {})
        again.finish()
    assert steps(tmp_path) == [25, 30]
    assert hidden(tmp_path) == []
    assert float(load_checkpoint(tmp_path).tensors["network"]["w"][0, 0]) == 2.0


def test_the_best_is_pointed_to_once_it_is_committed(tmp_path, gate):
    saver = Saver(tmp_path, keep=1)
    saver.save(1, state(), {})
    saver.prefer(Best(1, 5.0))
    assert not (tmp_path / "best").exists()
    gate.set()
    assert saver.best() == Best(1, 5.0)
    assert read_best(tmp_path) == 1
    saver.save(2, state(), {})
    saver.wait()
    saver.prefer(Best(2, 4.0))  # as when measuring took longer than writing
    assert read_best(tmp_path) == 2
    assert steps(tmp_path) == [2]


def test_a_best_that_could_not_be_saved_is_not_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "PAUSES", ())
    saver = Saver(tmp_path, keep=1)
    saver.save(1, state(), {})
    saver.prefer(Best(1, 5.0))
    saver.wait()
    with monkeypatch.context() as patched:
        patched.setattr(commit, "write_weights", full_disk)
        saver.save(2, state(), {}, last=True)
        saver.prefer(Best(2, 1.0))
        assert saver.best() == Best(1, 5.0)
    saver.save(3, state(), {})
    saver.finish()
    assert steps(tmp_path) == [1, 3]
    assert read_best(tmp_path) == 1


def full_disk(path, *_, **__):
    raise OSError(28, "No space left on device", str(path))


def test_leftovers_of_a_killed_process_are_cleared(tmp_path):
    saver = Saver(tmp_path, keep=1)
    saver.save(1, state(), {})
    saver.finish()
    left = tmp_path / "checkpoints/.step_00000002.0badcafe.1"
    left.mkdir()
    (left / "network.safetensors").touch()
    for name in (".latest.tmp_abcd1234", ".model.tmp_abcd_234.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / ".mine").touch()
    Saver(tmp_path, keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mine", "checkpoints", "latest"]
    assert steps(tmp_path) == [1]
    assert hidden(tmp_path) == []


def test_leaving_gives_up_the_save_in_flight(tmp_path, monkeypatch):
    monkeypatch.setattr("iddpm.training.checkpoints.weights.CHUNK", 1)
    monkeypatch.setattr(saving, "GRACE", None)  # of a join: until it is done
    original, begun, chunks = commit.write_weights, threading.Event(), []

    def held(path, named, *, between):
        def chunk():
            chunks.append(path.name)
            begun.set()
            assert saver._leaving.wait(60), "it never gives up"
            between()

        return original(path, named, between=chunk)

    monkeypatch.setattr(commit, "write_weights", held)
    with suppress(KeyboardInterrupt), Saver(tmp_path, keep=1) as saver:
        saver.save(1, state(), {})
        begun.wait()
        raise KeyboardInterrupt
    assert len(chunks) == 1
    assert steps(tmp_path) == []
    assert hidden(tmp_path) == []


def test_an_error_of_the_run_waits_for_the_save_in_flight(tmp_path, gate):
    with suppress(ValueError), Saver(tmp_path, keep=1) as saver:
        saver.save(1, state(), {})
        threading.Timer(0.1, gate.set).start()
        raise ValueError("run")
    assert steps(tmp_path) == [1]


def test_a_mistake_in_the_thread_is_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(commit, "write_weights", lambda *_, **__: 1 / 0)
    saver = Saver(tmp_path, keep=1)
    saver.save(1, state(), {})
    with pytest.raises(ZeroDivisionError):
        saver.finish()


@dataclass(frozen=True)
class Pretended(Ranks):
    """A rank of two in one process: the token, said first, stands for both."""

    board: list = field(default_factory=list)

    def gathered(self, value):
        self.board.append(value)
        return [self.board[0] if len(self.board) <= 2 else value]


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Savers of two ranks; what is named ``part`` is sharded."""
    board = []
    monkeypatch.setattr(saving, "PAUSES", (0.01,))
    monkeypatch.setattr(saving, "_local", lambda value: (value, value.ndim == 2))
    return [Saver(tmp_path, keep=3, ranks=Pretended(rank, 2, board=board)) for rank in (0, 1)]


def test_two_ranks_write_their_parts_and_any_number_reads_them(tmp_path, two):
    whole = torch.arange(15.0).view(5, 3)
    for saver, rows in zip(two, (slice(0, 3), slice(3, 5)), strict=True):
        saver.save(1, {"network": {"w": whole[rows], "scalar": torch.ones(())}}, {"n": 1})
    for saver in two:
        saver.finish()
    (path,) = list_checkpoints(tmp_path)
    assert {p.name for p in path.iterdir()} == {
        "network.safetensors", "network.1-of-2.safetensors", "network.2-of-2.safetensors",
        "state.json", "checksums.json",
    }  # fmt: skip
    weights = load_checkpoint(tmp_path).tensors["network"]
    assert torch.equal(weights["w"], whole)
    assert torch.equal(weights.rows("w", 2, 4), whole[2:4])
    assert weights["scalar"].shape == ()
    (path / "network.2-of-2.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is damaged.*network\.2-of-2"):
        load_checkpoint(tmp_path)


def test_the_part_of_a_lost_rank_is_waited_for_a_bounded_time(tmp_path, two, monkeypatch):
    patience = saving.PATIENCE
    monkeypatch.setattr(saving, "PATIENCE", 0.5)
    two[0].save(1, state(), {})
    with pytest.warns(UserWarning, match=r"step 1 could not.*rank 1 of 2 did not.*within 0\.5 s"):
        two[0].wait()
    two[1].save(1, state(), {})  # it comes too late, and is never taken for a part of step 2
    two[1].wait()
    monkeypatch.setattr(saving, "PATIENCE", patience)
    for saver in two:
        saver.save(2, state(), {})
    for saver in two:
        saver.finish()
    assert steps(tmp_path) == [2]


def test_an_error_of_another_rank_is_reported_by_the_first(tmp_path, two, monkeypatch):
    original = commit.write_weights

    def full_for_one(path, *rest, **options):
        return (full_disk if "2-of-2" in path.name else original)(path, *rest, **options)

    monkeypatch.setattr(commit, "write_weights", full_for_one)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for saver in two:
            saver.save(1, state(), {})
        for saver in two:
            saver.wait()
    said = sorted(str(warning.message) for warning in caught)
    assert len(said) == 2
    assert all("No space left on device" in message for message in said)
    assert any("rank 1 of 2" in message for message in said)
    assert steps(tmp_path) == []
    for saver in two:
        saver.save(2, state(), {}, last=True)
    for saver in two:
        with pytest.raises(NotSaved, match="step 2 could not be written"):
            saver.finish()


def test_nothing_was_measured(tmp_path):
    assert Saver(tmp_path, keep=1).best() is NOTHING
