import math

import pytest
import torch

from iddpm.networks import SuperResUNet, UNet
from iddpm.networks.condition_embedding import fourier_features

KINDS = ("number", "periodic", 3)
NAN = math.nan


def small(network=UNet, **options):
    torch.manual_seed(0)
    made = network(
        dims=1, in_channels=1, out_channels=1, model_channels=8, num_res_blocks=1,
        channel_mult=(1, 2), **options,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.1)
    return made.eval()


X, T = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([3.0, 700.0])


def test_the_features_of_a_number_are_itself_and_octaves():
    u = torch.tensor([-1.0, 0.0, 0.3])
    angles = math.pi / 2 * u[:, None].double() * torch.tensor([1, 2, 4, 8, 16, 32])
    wanted = torch.cat([u[:, None].double(), angles.cos(), angles.sin()], dim=1)
    torch.testing.assert_close(fourier_features(u, "number").double(), wanted, atol=3e-6, rtol=0)
    slowest = fourier_features(torch.linspace(-1, 1, 101), "number")[:, 7]
    assert bool((slowest.diff() > 0).all())  # no two values of the range look alike


def test_the_features_of_turns_are_harmonics_that_come_round():
    turns = torch.tensor([0.0, 0.2, 0.75])
    angles = 2 * math.pi * turns[:, None].double() * torch.arange(1, 7)
    wanted = torch.cat([angles.cos(), angles.sin()], dim=1)
    found = fourier_features(turns, "periodic")
    torch.testing.assert_close(found.double(), wanted, atol=2e-6, rtol=0)
    for more in (1, -3):
        same = fourier_features(turns + more, "periodic")
        torch.testing.assert_close(same, found, atol=1e-5, rtol=0)
    assert torch.equal(fourier_features(turns[:1] + 1, "periodic"), found[:1])


def test_a_whole_turn_changes_nothing_and_a_small_one_little():
    network = small(conditions=KINDS)

    def at(degrees):
        turns = torch.full((2,), degrees / 360)
        return network(X, T, conditions=torch.stack([turns * 0, turns, turns * 0], dim=1))

    torch.testing.assert_close(at(0), at(360), atol=1e-6, rtol=0)
    near, far = (at(359) - at(1)).abs().max(), (at(180) - at(1)).abs().max()
    assert 0 < near < 0.1 * far


def test_what_is_not_known_adds_nothing():
    conditioned, unconditioned = small(conditions=KINDS, num_classes=2), small()
    shared = unconditioned.state_dict().keys()
    unconditioned.load_state_dict(
        {k: v for k, v in conditioned.state_dict().items() if k in shared}
    )
    nothing = {"y": torch.full((2,), -1), "conditions": torch.full((2, 3), NAN)}
    assert torch.equal(conditioned(X, T, **nothing), unconditioned(X, T))
    some = torch.tensor([[0.5, NAN, NAN], [NAN, NAN, 2]])
    out = conditioned(X, T, **{**nothing, "conditions": some})
    assert all(not torch.equal(out[k], unconditioned(X, T)[k]) for k in range(2))
    alone = [
        conditioned(X[k : k + 1], T[k : k + 1], torch.tensor([-1]), some[k : k + 1]) for k in (0, 1)
    ]
    torch.testing.assert_close(out, torch.cat(alone))  # nobody hears of another's conditions


@pytest.mark.parametrize("column", range(3))
def test_the_gradient_reaches_each_condition_that_is_known(column):
    network = small(conditions=KINDS)
    conditions = torch.full((2, 3), NAN)
    conditions[0, column] = 0.0
    network(X, T, conditions=conditions).square().sum().backward()
    for number, term in enumerate(network.condition_emb.terms):
        gradients = [p.grad for p in term.parameters()]
        assert all(bool(g.isfinite().all()) for g in gradients)
        assert any(bool(g.any()) for g in gradients) == (number == column)


def test_conditions_are_counted_and_wanted():
    network = small(conditions=KINDS)
    with pytest.raises(ValueError, match=r"takes 3 conditions .* shape \[2, 2\]"):
        network(X, T, conditions=torch.zeros(2, 2))
    with pytest.raises(ValueError, match="takes 3 conditions and was called without some"):
        network(X, T)
    with pytest.raises(ValueError, match="takes no conditions and was called with some"):
        small()(X, T, conditions=torch.zeros(2, 3))


def test_no_network_has_more_parameters_than_its_settings_ask_for():
    plain = {name: p.shape for name, p in small().named_parameters()}
    conditioned = {name: p.shape for name, p in small(conditions=KINDS).named_parameters()}
    assert all(conditioned[name] == shape for name, shape in plain.items())
    assert {name.partition(".")[0] for name in conditioned if name not in plain} == {
        "condition_emb"
    }
    given = {name: p.shape for name, p in small(given_channels=2).named_parameters()}
    assert given.keys() == plain.keys()
    assert {name for name in plain if given[name] != plain[name]} == {"input_blocks.0.0.weight"}


def test_given_data_joins_the_input():
    network, given = small(given_channels=2), torch.randn(2, 2, 8)
    out = network(X, T, given=given)
    assert out.shape == X.shape
    assert not torch.equal(out, network(X, T, given=-given))
    joined = small()
    joined.input_blocks[0][0] = network.input_blocks[0][0]
    joined.in_channels = 3
    joined.load_state_dict(network.state_dict())
    assert torch.equal(out, joined(torch.cat([X, given], dim=1), T))
    assert torch.equal(network.features(X, T, given=given).middle, joined.features(
        torch.cat([X, given], dim=1), T
    ).middle)  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [(None, "called without any"), ((2, 1, 8), r"\[2, 2, 8\] .* \[2, 1, 8\]"), ((2, 2, 4), "2, 4")],
)
def test_given_data_must_fit(given, message):
    with pytest.raises(ValueError, match=message):
        small(given_channels=2)(X, T, given=None if given is None else torch.zeros(given))
    with pytest.raises(ValueError, match="takes 0 channels of paired data"):
        small()(X, T, given=torch.zeros(2, 2, 8))


def test_super_resolution_takes_conditions_too():
    network = small(SuperResUNet, conditions=(2,), given_channels=1)
    low, conditioned = torch.randn(2, 1, 4), torch.tensor([[0.0], [1.0]])
    out = network(X, T, low, conditions=conditioned, given=X)
    assert not torch.equal(out, network(X, T, low, conditions=1 - conditioned, given=X))
    assert not torch.equal(out, network(X, T, low, conditions=conditioned, given=-X))


@pytest.mark.parametrize("network", [UNet, SuperResUNet])
def test_further_numbers_change_nothing_at_first_and_something_once_trained(network):
    low = {"low_res": X} if network is SuperResUNet else {}
    plain, more = small(network), small(network, numbers=("guidance", "end"))
    before = plain.state_dict()
    added = {name for name in more.state_dict() if name not in before}
    assert {name.split(".")[0] for name in added} == {"number_emb"}
    more.load_state_dict({**more.state_dict(), **before})
    numbers = {"guidance": torch.tensor([1.0, 4.0]), "end": torch.tensor([0.1, 0.2])}
    other = {**numbers, "guidance": torch.tensor([1.0, 3.0])}
    assert not torch.equal(more(X, T, **numbers, **low)[1], more(X, T, **other, **low)[1])
    assert torch.equal(more(X, T, **numbers, **low)[0], more(X, T, **other, **low)[0])
    fresh = network(
        dims=1, in_channels=1, out_channels=1, model_channels=8, num_res_blocks=1,
        channel_mult=(1, 2), numbers=("guidance", "end"),
    ).eval()  # fmt: skip
    fresh.load_state_dict(before, strict=False)
    assert torch.equal(fresh(X, T, **numbers, **low), plain(X, T, **low))
    for wrong in ({}, {"guidance": torch.ones(2)}):
        with pytest.raises(ValueError, match="the network takes guidance, end and was called with"):
            more(X, T, **wrong, **low)
    with pytest.raises(ValueError, match="takes no further numbers and was called with end"):
        plain(X, T, end=torch.ones(2), **low)
