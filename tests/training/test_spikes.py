import json
import math

import pytest

from iddpm.training.spikes import ENOUGH, WINDOW, SpikeGuard


def filled(limit=10.0, loss=1.0, norm=0.5):
    guard = SpikeGuard(limit)
    assert not any(guard.judge(loss, norm) for _ in range(ENOUGH))
    return guard


def test_nothing_is_unusual_before_the_usual_is_known():
    guard = SpikeGuard(10.0)
    assert not any(guard.judge(1e6**k, 1e6**k) for k in range(ENOUGH))


@pytest.mark.parametrize(
    ("loss", "norm", "spike"), [(9.9, 4.9, False), (10.1, 0.1, True), (0.1, 5.1, True)]
)
def test_a_multiple_of_either_median_is_a_spike(loss, norm, spike):
    assert filled().judge(loss, norm) is spike


def test_one_spike_does_not_hide_the_next():
    guard = filled()
    assert [guard.judge(1.0, 1e3) for _ in range(3)] == [True] * 3
    assert not guard.judge(1.0, 0.5)


def test_a_loss_that_has_risen_for_good_is_learned_from_again():
    guard = filled()
    for _ in range(WINDOW):
        guard.judge(1.0, 0.5)
    skipped = [guard.judge(20.0, 0.5) for _ in range(WINDOW)]
    assert skipped[0]
    assert sum(skipped) <= WINDOW // 2 + 1
    assert not skipped[-1]


def test_a_loss_that_is_negative_as_a_rule_does_not_count():
    assert not filled(loss=-1.0).judge(-0.01, 0.5)
    assert filled(loss=-1.0).judge(-1.0, 6.0)


def test_the_state_goes_through_json_exactly():
    guard = SpikeGuard(3.0)
    for k in range(200):
        guard.judge(math.sin(k) + 1.1, math.cos(k) + 1.2)
    other = SpikeGuard(3.0)
    other.load(json.loads(json.dumps(guard.state())))
    assert other.state() == guard.state()
    assert len(guard.state()["norms"]) == WINDOW
    for k in range(200, 300):
        pair = (5 * math.sin(k) ** 8 + 0.1, 1.0)
        assert guard.judge(*pair) == other.judge(*pair)
