import pytest
import torch

from iddpm.training.checkpoints.checkpoint import load_checkpoint, step_of
from iddpm.training.checkpoints.ema_snapshots import (
    drop_later_snapshots,
    list_snapshots,
    reconstruct,
)
from iddpm.training.loop import train_loop
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.training.power import PowerEMA
from tests.training.test_loop import batches, everything, make, settings


def go(directory, total, *, stop=None, resume=False, lengths=(0.05, 0.1), bad=(), **options):
    state, step = make()
    state.emas += [PowerEMA(state.network, length) for length in lengths]  # the step's list too
    assert step.emas is state.emas
    if resume:
        state.restore(load_checkpoint(directory))
    train_loop(
        directory,
        state,
        step,
        batches(state.step, stop or total, bad),
        settings(total, snapshot_every=10, **options),
        reporter=SilentReporter(),
    )
    return state


def steps(directory):
    return [step_of(path.with_suffix("")) for path in list_snapshots(directory)]


def test_snapshots_at_their_interval_and_at_the_end(tmp_path):
    state = go(tmp_path, 45)
    assert steps(tmp_path) == [10, 20, 30, 40, 45]
    for power in state.emas[1:]:
        ours = reconstruct(tmp_path, power.length)
        for name, value in power.network.state_dict().items():
            torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6)
            assert ours[name].dtype == value.dtype


def test_a_length_in_between_is_close_to_its_own_average(tmp_path):
    state = go(tmp_path, 200, lengths=(0.05, 0.1, 0.07))
    exact = state.emas[3].network.state_dict()
    bracket = [ema.network.state_dict() for ema in state.emas[1:3]]
    go(tmp_path / "two", 200)
    ours = reconstruct(tmp_path / "two", 0.07)
    for name, value in exact.items():
        nearest = min(float((other[name] - value).abs().max()) for other in bracket)
        assert float((ours[name] - value).abs().max()) < 0.05 * nearest


def test_resume_is_exact_and_leaves_no_snapshot_twice_or_from_the_future(tmp_path):
    whole = go(tmp_path / "whole", 50, save_every=25)
    go(tmp_path / "parts", 50, stop=44, save_every=25)
    (tmp_path / "parts/averages/.step_00000040.x.safetensors").touch()  # of a kill while writing
    assert steps(tmp_path / "parts") == [10, 20, 30, 40]  # the checkpoint is that of step 25
    parts = go(tmp_path / "parts", 50, stop=25, resume=True)
    assert parts.step == 25
    assert steps(tmp_path / "parts") == [10, 20]
    assert len(list((tmp_path / "parts/averages").iterdir())) == 2
    parts = go(tmp_path / "parts", 50, resume=True)
    assert steps(tmp_path / "parts") == steps(tmp_path / "whole") == [10, 20, 30, 40, 50]
    for ours, other in zip(
        list_snapshots(tmp_path / "parts"), list_snapshots(tmp_path / "whole"), strict=True
    ):
        assert ours.read_bytes() == other.read_bytes()
    a, b = everything(whole), everything(parts)
    assert a[1] == b[1]
    assert "power_0.05/scale" in a[0]
    for name, value in a[0].items():
        assert torch.equal(value, b[0][name]), name


def test_time_counts_updates_and_not_the_steps_that_were_skipped(tmp_path):
    state = go(tmp_path, 20, bad=range(12), max_bad_steps=99)
    assert state.emas[1].updates == 8
    assert steps(tmp_path) == [20], "nothing was averaged at step 10"
    for name, value in state.emas[1].network.state_dict().items():
        torch.testing.assert_close(reconstruct(tmp_path, 0.05)[name], value, rtol=1e-6, atol=1e-7)


def test_what_cannot_be_made_is_refused_with_what_can(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no snapshots.*training\.posthoc_ema=true"):
        reconstruct(tmp_path, 0.07)
    go(tmp_path, 100)
    with pytest.raises(ValueError, match=r"0\.004 cannot be computed from the 10 .*use 0\.0\d+ to"):
        reconstruct(tmp_path, 0.004)
    with pytest.raises(ValueError, match=r"below 0\.2887, not 0\.3"):
        reconstruct(tmp_path, 0.3)
    path = list_snapshots(tmp_path)[3]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"step_00000040.*damaged"):
        reconstruct(tmp_path, 0.07)
    drop_later_snapshots(tmp_path, 30)
    assert steps(tmp_path) == [10, 20, 30]
    reconstruct(tmp_path, 0.07)
