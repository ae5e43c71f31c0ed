import pytest
import torch
from torch import nn

from iddpm.training.checkpoints.checkpoint import load_checkpoint
from iddpm.training.ema import EMA
from iddpm.training.loop import train_loop
from iddpm.training.monitoring.terminal import SilentReporter
from tests.training.test_loop import batches, make, settings


def network(value: float) -> nn.Module:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(value)
    return layer


def fill(layer: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(value)


def test_closed_form_over_five_steps():
    live = network(1.0)
    ema = EMA(live, 0.9, warmup=False)
    expected = 1.0
    for value in (2.0, -1.0, 4.0, 0.5, 3.0):
        fill(live, value)
        ema.update(live)
        expected = 0.9 * expected + 0.1 * value
    assert ema.network.weight.flatten().tolist() == pytest.approx([expected] * 4, rel=1e-6)
    assert ema.network.bias.tolist() == pytest.approx([expected] * 2, rel=1e-6)


def test_closed_form_with_a_skipped_step_and_a_resume(tmp_path):
    weights, averages = {}, {}
    for stop in (4, 7):
        state, step = make((0.9,))
        if stop == 7:
            state.restore(load_checkpoint(tmp_path))

        def look(k, network, state=state):
            weights[k] = float(state.network.scale.detach())
            averages[k] = float(network.scale)

        train_loop(
            tmp_path,
            state,
            step,
            batches(state.step, stop, bad=[2]),
            settings(7, preview_every=1, save_every=4),
            reporter=SilentReporter(),
            preview=look,
        )
    average, updates = 1.0, 0
    for k in range(1, 8):
        if k != 3:  # the third batch held NaN
            updates += 1
            kept = min(0.9, (1 + updates) / (10 + updates))
            average = kept * average + (1 - kept) * weights[k]
        assert averages[k] == pytest.approx(average, rel=1e-6), k
    assert weights[3] == weights[2]


def test_warmup_keeps_less_early_on():
    live = network(0.0)
    ema = EMA(live, 0.9999)
    fill(live, 1.0)
    expected = 0.0
    for n in range(1, 6):
        ema.update(live)
        kept = (1 + n) / (10 + n)
        expected = kept * expected + (1 - kept)
    assert float(ema.network.bias[0]) == pytest.approx(expected, rel=1e-6)
    assert expected > 0.99


def test_warmup_ends_at_the_rate():
    live = network(0.0)
    ema = EMA(live, 0.5)
    ema.updates = 10**6
    fill(live, 1.0)
    ema.update(live)
    assert float(ema.network.bias[0]) == pytest.approx(0.5)


def test_live_weights_are_untouched_and_the_average_needs_no_gradient():
    live = network(1.0)
    ema = EMA(live, 0.5)
    fill(live, 3.0)
    ema.update(live)
    assert live.weight.flatten().tolist() == [3.0] * 4
    assert not any(p.requires_grad for p in ema.network.parameters())
    assert not ema.network.training
    assert live.training


def test_buffers_follow():
    live = nn.BatchNorm1d(2)
    ema = EMA(live, 0.9)
    live.running_mean.fill_(7.0)
    ema.update(live)
    assert ema.network.running_mean.tolist() == [7.0, 7.0]
