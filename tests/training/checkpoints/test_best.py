import math
import pickle
import shutil

import pytest

from iddpm.training.checkpoints.best import NOTHING, Best, find_best, point_to_best, read_best
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint, step_of
from iddpm.training.loop import train_loop
from iddpm.training.monitoring.log_files import read_log
from iddpm.training.monitoring.terminal import SilentReporter
from tests.training.test_loop import batches, make, settings


def go(directory, losses, *, stop=None, resume=False, every=1, **options):
    """Train while the held-out loss of step k is losses[k - 1]; return the steps kept."""
    state, step = make()
    if resume:
        state.restore(load_checkpoint(directory))
    train_loop(
        directory,
        state,
        step,
        batches(state.step, stop or len(losses)),
        settings(len(losses), validate_every=every, **options),
        reporter=SilentReporter(),
        validate=lambda network: losses[state.step - 1],
    )
    return [step_of(path) for path in list_checkpoints(directory)]


def test_the_best_stays_beside_the_newest(tmp_path):
    kept = go(tmp_path, [5.0, 3.0, 4.0, 4.0, 3.5, 3.0, 9.0], save_every=1, keep_checkpoints=2)
    assert kept == [2, 6, 7]
    assert read_best(tmp_path) == 2
    assert (tmp_path / "best").read_text() == "step_00000002\n"
    assert load_checkpoint(tmp_path).step == 7


def test_a_new_best_is_saved_although_no_checkpoint_is_due(tmp_path):
    kept = go(tmp_path, [5.0, 3.0, 4.0, 2.0, 3.5], save_every=100, keep_checkpoints=1)
    assert kept == [4, 5]
    assert read_best(tmp_path) == 4


def test_a_loss_that_is_not_finite_or_not_measured_is_never_best(tmp_path):
    kept = go(tmp_path / "a", [math.nan, 7.0, math.nan, -math.inf], keep_checkpoints=1)
    assert kept == [2, 4]
    assert read_best(tmp_path / "a") == 2
    go(tmp_path / "b", [None, None], keep_checkpoints=1)
    with pytest.raises(FileNotFoundError, match=r"no best checkpoint.*validate_every"):
        read_best(tmp_path / "b")


@pytest.mark.parametrize("losses", [[5.0, 3.0, 4.0, 4.0, 2.0, 6.0], [5.0, 3.0, 4.0, 4.0, 4.0, 6.0]])
def test_resume_remembers_the_best(tmp_path, losses):
    options = {"save_every": 1, "keep_checkpoints": 1}
    whole = go(tmp_path / "whole", losses, **options)
    go(tmp_path / "parts", losses, stop=3, **options)
    assert read_best(tmp_path / "parts") == 2
    assert go(tmp_path / "parts", losses, resume=True, **options) == whole
    assert read_best(tmp_path / "parts") == read_best(tmp_path / "whole")


def test_a_measurement_that_a_kill_took_is_made_up(tmp_path):
    """Killed after the checkpoint of step 2 was written and before its loss was."""
    losses = [5.0, 1.0, 4.0]
    go(tmp_path, losses, stop=2, save_every=1, keep_checkpoints=1)
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text().splitlines()[0] + "\n")
    point_to_best(tmp_path, NOTHING)
    assert go(tmp_path, losses, resume=True, save_every=1, keep_checkpoints=1) == [2, 3]
    assert read_best(tmp_path) == 2
    assert [record["held_out_loss"] for record in read_log(tmp_path)] == losses


def test_resume_from_before_the_best_forgets_it_until_it_comes_again(tmp_path):
    losses = [5.0, 4.0, 6.0, 1.0, 2.0]
    go(tmp_path, losses, stop=4, save_every=1, keep_checkpoints=9)
    assert read_best(tmp_path) == 4
    shutil.rmtree(tmp_path / "checkpoints/step_00000004")
    go(tmp_path, losses, stop=3, resume=True, save_every=1, keep_checkpoints=9)
    assert read_best(tmp_path) == 2, "nothing was trained, yet the pointer is right again"
    go(tmp_path, losses, resume=True, save_every=1, keep_checkpoints=9)
    assert read_best(tmp_path) == 4


def test_the_log_is_the_memory_and_checkpoints_have_to_exist(tmp_path):
    go(tmp_path, [5.0, 4.0, 6.0], save_every=1, keep_checkpoints=9)
    assert find_best(tmp_path) == Best(2, 4.0)
    shutil.rmtree(tmp_path / "checkpoints/step_00000002")
    assert find_best(tmp_path) == Best(1, 5.0)
    shutil.rmtree(tmp_path / "checkpoints")
    assert find_best(tmp_path) is NOTHING
    point_to_best(tmp_path, NOTHING)
    assert not (tmp_path / "best").exists()
    (tmp_path / "best").write_text("../../etc\n")
    with pytest.raises(ValueError, match="instead of the name of a checkpoint"):
        read_best(tmp_path)


def test_no_best_from_another_process_removes_the_pointer(tmp_path):
    point_to_best(tmp_path, Best(3, 0.5))
    point_to_best(tmp_path, pickle.loads(pickle.dumps(NOTHING)))  # as ranks exchange it
    assert not (tmp_path / "best").exists()
