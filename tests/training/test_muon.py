import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from iddpm.runtime.processes import ALONE
from iddpm.training import muon
from iddpm.training.checkpoints.checkpoint import Checkpoint
from iddpm.training.muon import Muon, orthogonalized
from tests.training import two_ranks


def random_matrix(rows, columns, values, seed=0):
    """A matrix with these singular values, its factors, all float64."""
    generator = torch.Generator().manual_seed(seed)
    u, _ = torch.linalg.qr(torch.randn(rows, rows, dtype=torch.float64, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(columns, columns, dtype=torch.float64, generator=generator))
    rank = len(values)
    return u[:, :rank] @ torch.diag(values) @ v[:, :rank].T


@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (4, 30), (30, 4)])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
def test_the_result_is_the_polar_factor_within_the_stated_tolerance(rows, columns, scale):
    rank = min(rows, columns)
    wanted = torch.logspace(-2, 0, rank, dtype=torch.float64) * scale
    matrix = random_matrix(rows, columns, wanted)
    u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalized(matrix[None])[0] @ vh.T
    assert float(values.min() / values.norm()) > 1 / 500
    assert bool(((found.diagonal() > 0.68) & (found.diagonal() < 1.21)).all())
    assert float((found - torch.diag(found.diagonal())).abs().max()) < 1e-10
    in_float32 = orthogonalized(matrix[None].float())[0].double()
    # Its singular values differ from one by at most 0.32, and so it from the polar factor.
    assert float(torch.linalg.matrix_norm(in_float32 - u @ vh, ord=2)) < 0.33


def test_bfloat16_stays_within_half_of_the_polar_factor(monkeypatch):
    """Jordan et al. 2024 state values of 0.5 to 1.5; devices with fast bfloat16 take it."""
    matrix = random_matrix(8, 40, torch.logspace(-1.5, 0, 8, dtype=torch.float64))
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    exact = orthogonalized(matrix[None].float())
    monkeypatch.setattr(muon, "has_fast_bfloat16", lambda device: True)
    found = orthogonalized(matrix[None].float())
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert float(torch.linalg.matrix_norm(found[0].double() - u @ vh, ord=2)) < 0.5


def test_directions_without_gradient_stay_without_update():
    matrix = random_matrix(5, 9, torch.tensor([1.0, 0.5], dtype=torch.float64))
    values = torch.linalg.svdvals(orthogonalized(matrix[None])[0])
    assert bool((values[:2] > 0.68).all())
    assert float(values[2:].max()) < 1e-12
    assert float(orthogonalized(torch.zeros(2, 3, 4)).abs().max()) == 0


def by_hand(weight, gradients, rate, decay, out_axis):
    """Muon as Jordan et al. (2024) and Liu et al. (2025, equation 4) write it, one matrix alone."""
    weight, momentum = weight.copy(), np.zeros_like(weight)
    for gradient in gradients:
        momentum = 0.95 * momentum + gradient
        update = gradient + 0.95 * momentum
        flat = np.moveaxis(update, out_axis, 0)
        x = flat.reshape(flat.shape[0], -1)
        size = x.shape
        x = x / np.linalg.norm(x)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        update = np.moveaxis(x.reshape(flat.shape), 0, out_axis)
        weight = weight - rate * (0.2 * math.sqrt(max(size)) * update + decay * weight)
    return weight


def test_steps_are_those_of_a_plain_implementation():
    """Matrices, convolutions, transposed ones, equal shapes twice, and AdamW for the rest."""
    torch.manual_seed(0)
    layers = nn.ModuleList(
        [nn.Linear(5, 7), nn.Linear(5, 7), nn.Conv2d(3, 4, 3), nn.ConvTranspose1d(3, 6, 4)]
    ).double()
    layers[2].to(memory_format=torch.channels_last)
    weights, biases = [m.weight for m in layers], [m.bias for m in layers]
    plain = [b.detach().clone().requires_grad_() for b in biases]
    optimizer = Muon(biases, weights[:3], weights[3:], lr=0.02, betas=(0.8, 0.9), weight_decay=0.3)
    adamw = torch.optim.AdamW(plain, lr=0.02, betas=(0.8, 0.9), weight_decay=0.3)
    starts = [w.detach().numpy().copy() for w in weights]
    gradients = [[torch.randn_like(w) for w in weights] for _ in range(3)]
    for drawn in gradients:
        for weight, gradient in zip(weights, drawn, strict=True):
            weight.grad = gradient.clone()
        for bias, other in zip(biases, plain, strict=True):
            bias.grad = other.grad = torch.randn_like(bias)
        optimizer.step()
        adamw.step()
    for k, (weight, start) in enumerate(zip(weights, starts, strict=True)):
        expected = by_hand(start, [g[k].numpy() for g in gradients], 0.02, 0.3, int(k == 3))
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    for bias, other in zip(biases, plain, strict=True):
        torch.testing.assert_close(bias, other, rtol=1e-12, atol=1e-14)


def test_an_update_has_the_size_of_one_by_adamw():
    """Liu et al. 2025, section 2.2; the singular values of the factor lie in 0.68 to 1.21."""
    for shape in ((16, 48), (48, 16)):
        weight = nn.Parameter(torch.zeros(shape))
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        Muon([], [weight], lr=0.1).step()
        size = float(weight.detach().square().mean().sqrt()) / 0.1
        assert 0.2 * 0.68 < size < 0.2 * 1.21


def test_weights_without_gradient_are_left_alone():
    idle, busy = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3, 4))
    busy.grad = torch.ones(3, 4)
    optimizer = Muon([], [idle, busy], lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert bool((idle == 1).all())
    assert not bool((busy == 1).any())


def test_a_resumed_run_goes_on_bit_for_bit():
    state, step = two_ranks.make(ALONE, "ddp", two_ranks.muon)
    state.network.to(memory_format=torch.channels_last)
    two_ranks.take(state, step, 2)
    groups = {
        group: {name: value.clone(memory_format=torch.contiguous_format)
                for name, value in named.items()}
        for group, named in state.tensors().items()
    }  # fmt: skip
    assert {key.partition("/")[0] for key in groups["optimizer"]} == {
        "momentum", "step", "exp_avg", "exp_avg_sq"
    }  # fmt: skip
    again, anew = two_ranks.make(ALONE, "ddp", two_ranks.muon)
    again.network.to(memory_format=torch.channels_last)
    again.restore(Checkpoint(Path("memory"), state.step, groups, state.numbers()))
    two_ranks.take(state, step, 2)
    two_ranks.take(again, anew, 2)
    first, second = two_ranks.everything(state), two_ranks.everything(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_step_that_is_not_finite_changes_nothing():
    state, step = two_ranks.make(ALONE, "ddp", two_ranks.muon)
    two_ranks.take(state, step, 1)
    before = {name: value.clone() for name, value in two_ranks.everything(state).items()}
    x, y = two_ranks.data(1)
    x[0] = float("nan")
    assert step(x, 1, y=y).bad
    after = two_ranks.everything(state)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_one_learning_rate_is_set_for_all():
    optimizer = two_ranks.muon([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, 2))])
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    optimizer.step()
    assert all(not p.any() for group in optimizer.param_groups for p in group["params"])
