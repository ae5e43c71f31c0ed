import mpmath
import numpy as np
import pytest
import torch

from iddpm.training.power import (
    LONGEST,
    PowerEMA,
    Profiles,
    fit,
    gamma_of,
    inner_product,
)


def length_of(gamma):
    """sigma_rel of a profile: its standard deviation over its end (Karras et al. 2024, 3.1)."""
    return float(np.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2))


def profiles(ends, gammas):
    return Profiles(np.array(ends, dtype=float), np.array(gammas, dtype=float))


@pytest.mark.parametrize(
    ("length", "gamma"), [(0.05, 16.97), (0.10, 6.94), (0.25, 0.72)]
)  # Karras et al. 2024, section 3.1 gives 16.97 and 6.94
def test_gamma_and_length_are_inverse(length, gamma):
    assert gamma_of(length) == pytest.approx(gamma, abs=0.005)
    for exact in np.linspace(0.003, LONGEST - 1e-4, 50):
        assert length_of(gamma_of(exact)) == pytest.approx(exact, rel=1e-9)
    for wrong in (0.0, -0.1, LONGEST, 0.5, float("nan")):
        with pytest.raises(ValueError, match=r"above 0 and below 0\.2887"):
            gamma_of(wrong)


@pytest.mark.parametrize("gamma", [0.0, 0.7, 6.94])
def test_length_is_the_deviation_of_the_profile(gamma):
    with mpmath.workdps(20):
        moment = [
            mpmath.quad(lambda tau, n=n: (gamma + 1) * tau ** (gamma + n), [0, 1]) for n in range(3)
        ]
    assert float(moment[0]) == pytest.approx(1)
    deviation = mpmath.sqrt(moment[2] - moment[1] ** 2)
    assert length_of(gamma) == pytest.approx(float(deviation), rel=1e-10)


@pytest.mark.parametrize(
    ("a", "b"), [((3.0, 16.97), (5.0, 6.94)), ((5.0, 0.1), (2.0, 6.94)), ((4.0, 7.0), (4.0, 0.5))]
)
def test_inner_products_are_the_integrals(a, b):
    def profile(end, gamma, tau):
        return (gamma + 1) / end * (tau / end) ** gamma

    with mpmath.workdps(20):
        exact = mpmath.quad(lambda tau: profile(*a, tau) * profile(*b, tau), [0, min(a[0], b[0])])
    one, other = profiles([a[0]], [a[1]]), profiles([b[0]], [b[1]])
    assert float(inner_product(one, other)[0]) == pytest.approx(float(exact), rel=1e-9)
    assert float(inner_product(other, one)[0]) == pytest.approx(float(exact), rel=1e-9)


def series(updates, seed=0):
    """Weights that drift, settle and jitter, [updates, 40] float64."""
    generator = np.random.default_rng(seed)
    time = np.linspace(0, 1, updates)[:, None]
    rate, target = generator.uniform(1, 8, 40), generator.normal(size=40)
    walk = generator.normal(size=(updates, 40)).cumsum(axis=0) / updates**0.5
    return target * (1 - np.exp(-rate * time)) + 0.3 * walk


def directly(weights, length):
    """The average by its definition, update by update, in float64."""
    exponent, average = gamma_of(length) + 1, weights[0]
    for n, now in enumerate(weights[1:], start=2):
        kept = (1 - 1 / n) ** exponent
        average = kept * average + (1 - kept) * now
    return average


def test_the_update_is_the_average_under_the_power_function():
    """Equation 2 against the weights n^(gamma+1) - (n-1)^(gamma+1), which telescope, in float64."""
    values, length = series(50), 0.1
    network = torch.nn.Linear(40, 1, bias=False, dtype=torch.float64)
    ema = PowerEMA(network, length)
    for value in values:
        network.weight.data.copy_(torch.from_numpy(value))
        ema.update(network)
    n = np.arange(51) ** (gamma_of(length) + 1)
    shares = np.diff(n) / n[-1]
    expected = shares @ values
    np.testing.assert_allclose(ema.network.weight[0].numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(directly(values, length), expected, rtol=1e-10)
    assert ema.name == "power_0.1"
    assert not ema.network.weight.requires_grad


def kept_profiles(updates, every, lengths):
    ends = [end for end in range(every, updates + 1, every) for _ in lengths]
    return profiles(ends, [gamma_of(s) for _ in range(updates // every) for s in lengths])


@pytest.mark.parametrize("every", [50, 100])
def test_a_tracked_profile_is_returned_as_it_is(every):
    lengths = (0.05, 0.10)
    kept = kept_profiles(1000, every, lengths)
    for k, length in enumerate(lengths):
        for end in (1000, 500):
            found = fit(kept, profiles([end], [gamma_of(length)]))
            expected = np.zeros(len(kept.end))
            expected[2 * (end // every - 1) + k] = 1
            np.testing.assert_allclose(found.weights, expected, atol=1e-8)
            assert found.error < 1e-6


@pytest.mark.parametrize("length", [0.03, 0.04, 0.07, 0.085, 0.15, 0.2])
def test_an_untracked_length_is_close_to_its_own_average(length):
    updates, every, lengths = 2000, 100, (0.05, 0.10)
    weights = series(updates)
    kept = kept_profiles(updates, every, lengths)
    averages = [
        directly(weights[:end], s) for end in range(every, updates + 1, every) for s in lengths
    ]
    found = fit(kept, profiles([updates], [gamma_of(length)]))
    assert found.weights.sum() == pytest.approx(1, rel=1e-9)
    ours, exact = found.weights @ np.array(averages), directly(weights, length)
    others = [np.linalg.norm(averages[-k] - exact) for k in (1, 2)]
    assert np.linalg.norm(ours - exact) < 0.1 * min(others)
    assert found.error < 0.04


def test_the_error_is_that_of_the_profile():
    kept, wanted = kept_profiles(100, 20, (0.1,)), profiles([100], [gamma_of(0.15)])
    found = fit(kept, wanted)
    tau = (np.arange(200_000) + 0.5) / 2000

    def values(p):
        inside = tau[:, None] <= p.end
        return inside * (p.gamma + 1) / p.end * (tau[:, None] / p.end) ** p.gamma

    difference = values(kept) @ found.weights - values(wanted)[:, 0]
    measured = np.sqrt((difference**2).mean() / (values(wanted) ** 2).mean())
    assert found.error == pytest.approx(measured, rel=1e-3)
    # No other weights that sum to 1 come closer.
    for k in range(4):
        moved = found.weights.copy()
        moved[k] += 0.05
        moved[k + 1] -= 0.05
        other = values(kept) @ moved - values(wanted)[:, 0]
        assert (other**2).mean() > (difference**2).mean()
