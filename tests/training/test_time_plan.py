import itertools

import pytest

from iddpm.training.checkpoints.checkpoint import load_checkpoint
from iddpm.training.loop import train_loop
from iddpm.training.monitoring.log_files import read_log
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.training.stop import Stop
from iddpm.training.time_plan import Pace, Planner, TimePlan, plan_session
from tests.training.test_loop import batches, everything, make, settings


class Clock:
    """A clock that only training moves: ``pace(step)`` seconds for each step."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


class Said(SilentReporter):
    def __init__(self):
        self.lines, self.totals = [], []

    def say(self, message):
        self.lines.append(message)

    def start(self, step, total):
        self.totals.append(total)


def go(directory, clock, pace, *, state=None, budget=30.0, most=None, stop=None, **options):
    """Train with a limit of some seconds; return the state, why it ended, what was said, rates."""
    new, step = make()
    if state is None:
        new.plan = plan_session(None, 0, budget, most)
    else:
        new.restore(load_checkpoint(directory))
        new.plan = plan_session(new.plan, new.step, budget, None)
    rates = []

    def fed():
        for k, batch in zip(itertools.count(new.step), batches(new.step, 10**6)):
            if k == stop:
                return
            yield batch

    def timed(*args, **conditioning):
        clock.now += pace(new.step)
        rates.append(new.optimizer.param_groups[0]["lr"])
        return type(step).__call__(step, *args, **conditioning)

    timed.denoiser, timed.microbatch = step.denoiser, step.microbatch
    hooks = {
        name: options.pop(name) for name in ("validate", "preview", "planned") if name in options
    }
    said = Said()
    reason = train_loop(
        directory,
        new,
        timed,
        fed(),
        settings(20_000, anneal=True, max_seconds=budget, **options),
        reporter=said,
        **hooks,
    )
    return new, reason, said, rates


def test_a_limit_is_planned_from_the_pace_and_the_rate_ends_there(tmp_path, monkeypatch):
    told = []
    state, reason, said, rates = go(
        tmp_path, Clock(monkeypatch), lambda step: 0.5, planned=told.append
    )
    assert (reason, state.step) == (Stop.FINISHED, 60)
    # Constant until the pace is known, after 2 + 3 steps; then in equal parts to 0.
    assert rates[:5] == [0.01] * 5
    expected = [0.01 * (1 - (k - 5) / 55) for k in range(5, 60)]
    assert rates[5:] == pytest.approx(expected, rel=1e-12)
    assert "planned 60 steps in 30 s, 0.50 s each: the learning rate falls until then" in (
        said.lines
    )
    assert (told, said.totals) == ([60], [20_000, 60])
    assert [r["planned_steps"] for r in read_log(tmp_path) if "planned_steps" in r] == [60]


def test_time_of_validation_and_previews_counts(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    began = clock.now

    def validate(_):
        clock.now += 1.5
        return 1.0

    def preview(*_):
        clock.now += 1.0

    _, reason, _, rates = go(
        tmp_path, clock, lambda step: 0.5,
        validate=validate, preview=preview, validate_every=20, preview_every=25,
    )  # fmt: skip
    spent = clock.now - began
    assert reason is Stop.FINISHED
    assert 27 <= spent <= 30, "with the last validation and preview"
    assert rates[-1] < 0.01 * 0.04


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_another_pace_plans_anew_and_the_rate_still_ends_at_the_limit(
    tmp_path, monkeypatch, factor
):
    clock = Clock(monkeypatch)
    state, _, said, rates = go(tmp_path, clock, lambda step: 0.5 * (factor if step >= 24 else 1))
    assert clock.now - 1000 == pytest.approx(30, abs=1)
    assert state.step == pytest.approx(24 + 18 / (0.5 * factor), abs=2)
    assert rates[-1] < 0.01 * 0.1
    assert all(b <= a for a, b in itertools.pairwise(rates))
    assert max(a - b for a, b in itertools.pairwise(rates)) < 3 * 0.01 / 36, "no jump"
    planned = [r["planned_steps"] for r in read_log(tmp_path) if "planned_steps" in r]
    assert planned[0] == 60
    assert planned[-1] == state.plan.end == state.step
    assert any("now, as the pace has changed" in line for line in said.lines)


@pytest.mark.parametrize(("most", "steps"), [(45, 45), (90, 60)])
def test_the_smaller_of_steps_and_time_wins(tmp_path, monkeypatch, most, steps):
    state, reason, said, rates = go(tmp_path, Clock(monkeypatch), lambda step: 0.5, most=most)
    assert (state.step, reason) == (steps, Stop.FINISHED)
    if most == 45:  # exactly as without a limit
        assert rates == [0.01 * (1 - k / 45) for k in range(45)]
        assert any("45 steps as asked" in line and "less than" in line for line in said.lines)
    else:
        assert any("60 steps instead of the 90 asked for" in line for line in said.lines)
        assert rates[-1] < 0.01 * 0.02


def test_a_killed_and_resumed_run_goes_on_with_the_same_plan(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    whole, _, _, rates = go(tmp_path / "whole", clock, lambda step: 0.5)
    half, *_ = go(tmp_path / "parts", clock, lambda step: 0.5, stop=32, save_every=20)
    assert half.step == 32  # killed there: it is saved as if its data had ended
    clock.now += 5000  # it waits, which is not training
    again, reason, _, later = go(tmp_path / "parts", clock, lambda step: 0.5, state=half)
    assert reason is Stop.FINISHED
    assert later == rates[-len(later) :]
    a, b = everything(whole), everything(again)
    for name, value in a[0].items():
        assert (value == b[0][name]).all(), name
    assert a[1] == b[1]


def test_what_a_session_makes_of_the_plan_before():
    unfinished = TimePlan(100.0, spent=50.0, start=10, end=110)
    assert plan_session(None, 0, 60.0, 7).numbers() == TimePlan(60.0, 7).numbers()
    assert plan_session(None, 5, 60.0, None) is None, "a run without a plan keeps its length"
    assert plan_session(unfinished, 60, 100.0, None) is unfinished
    assert plan_session(unfinished, 60, None, None) is unfinished
    other = plan_session(unfinished, 60, 300.0, None)
    assert (other.end, other.share_at(60), other.spent) == (None, 0.5, 0.0)
    more = plan_session(unfinished, 110, 300.0, None)
    assert (more.end, more.share_at(110)) == (None, 0.75)
    asked = TimePlan(100.0, 110, spent=50.0, end=110)
    assert plan_session(asked, 110, 300.0, None) is asked, "the steps asked for are done"


def test_a_limit_of_few_steps_is_not_planned():
    planner = Planner(TimePlan(100.0))
    assert not any(planner.observe(k, Pace(20.0 * k, 20.0 * k, 0, 0)) for k in (1, 2))
    assert planner.observe(3, Pace(60.0, 60.0, 0, 0)), "one step is enough after a quarter"
    assert planner.plan.end == 5


def test_what_is_not_measured_yet_takes_a_small_share_of_the_limit():
    """A preview is guessed from the items; small networks draw it much faster."""
    planner = Planner(TimePlan(100.0), every=(0, 1000), shares=(0.0, 1000.0))
    for k in range(1, 9):
        planner.observe(k, Pace(0.5 * k, 0.5 * k, 0, 0))
    assert planner.plan.end == 190, "5 s of 100 for it"
