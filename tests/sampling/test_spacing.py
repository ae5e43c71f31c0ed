import math
from fractions import Fraction
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iddpm.diffusion import cosine, linear
from iddpm.sampling import even_timesteps, space_timesteps
from iddpm.sampling.spacing import karras_timesteps, log_snr_timesteps


def reference(num_steps, request):
    """The description of the published strings, step by step; None where it must refuse."""
    if request.startswith("ddim"):
        count = int(request[4:])
        fitting = [k for k in range(1, num_steps) if -(-num_steps // k) == count]
        return list(range(0, num_steps, fitting[0])) if fitting else None
    counts = [int(part) for part in request.split(",")]
    kept = []
    start = 0
    for section, count in enumerate(counts):
        length = num_steps // len(counts) + (1 if section < num_steps % len(counts) else 0)
        if length < count:
            return None
        for k in range(count):
            exact = Fraction(length - 1, count - 1) * k if count > 1 else Fraction(0)
            kept.append((start, exact))
        start += length
    return kept


def agrees(ours, exact):
    """Whether rounding each exact position gives ours; a tie may round either way."""
    if len(ours) != len(exact):
        return False
    return all(
        abs(step - start - position) <= Fraction(1, 2)
        for step, (start, position) in zip(ours, exact, strict=True)
    )


@settings(deadline=None)
@given(st.integers(1, 4000), st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_counts_by_section_are_met_exactly_or_refused(num_steps, counts):
    request = ",".join(map(str, counts))
    exact = reference(num_steps, request)
    if exact is None:
        with pytest.raises(ValueError, match=f"of {num_steps}|{num_steps} steps") as raised:
            space_timesteps(num_steps, request)
        assert request in str(raised.value)
        return
    kept = space_timesteps(num_steps, request)
    assert len(kept) == sum(counts)
    assert kept == sorted(set(kept))
    assert kept[0] == 0
    assert kept[-1] < num_steps
    assert agrees(kept, exact)
    if counts[-1] > 1:
        assert kept[-1] == num_steps - 1


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(1, 2100))
def test_an_integer_stride_or_a_refusal(num_steps, count):
    expected = reference(num_steps, f"ddim{count}")
    if expected is None:
        with pytest.raises(ValueError, match=f"exactly {count} of {num_steps}"):
            space_timesteps(num_steps, f"ddim{count}")
    else:
        kept = space_timesteps(num_steps, f"ddim{count}")
        assert kept == expected
        assert len(kept) == count
        assert kept[0] == 0


@settings(deadline=None)
@given(st.data())
def test_even_timesteps_keep_the_noisiest_always(data):
    num_steps = data.draw(st.integers(1, 4000))
    count = data.draw(st.integers(1, num_steps))
    kept = even_timesteps(num_steps, count)
    assert len(kept) == count
    assert kept == sorted(set(kept))
    assert kept[-1] == num_steps - 1
    if count > 1:
        assert kept[0] == 0
        gaps = [b - a for a, b in pairwise(kept)]
        assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("count", [0, -1, 11])
def test_even_timesteps_name_the_numbers_they_refuse(count):
    with pytest.raises(ValueError, match=f"take {count} steps of a process of 10: use 1 to 10"):
        even_timesteps(10, count)


def test_published_examples():
    """Facts of the published tool."""
    assert space_timesteps(300, "10,15,20")[:11] == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99, 100]
    assert len(space_timesteps(300, "10,15,20")) == 45
    assert space_timesteps(1000, "ddim50") == list(range(0, 1000, 20))
    assert space_timesteps(100, "ddim7") == [0, 15, 30, 45, 60, 75, 90]
    assert space_timesteps(1000, "1") == [0]
    assert space_timesteps(1000, "1,1,1") == [0, 334, 667]
    assert space_timesteps(4000, "100")[:7] == [0, 40, 81, 121, 162, 202, 242]
    assert space_timesteps(7, "") == list(range(7))
    assert space_timesteps(7, "7") == list(range(7))


@pytest.mark.parametrize(
    "request_",
    ["ddim0", "ddim", "ddim-3", "ddim5,5", "-5", "abc", "10,,5", "0", "10,0", ",", "2.5"],
)
def test_what_is_not_understood_is_quoted(request_):
    with pytest.raises(ValueError, match="is invalid") as raised:
        space_timesteps(1000, request_)
    assert repr(request_) in str(raised.value)


def test_a_refused_section_says_how_long_it_is():
    with pytest.raises(ValueError, match=r"20 steps from a section of 10 \(10 steps"):
        space_timesteps(10, "20")
    with pytest.raises(ValueError, match=r"4 steps from a section of 3 \(7 steps, request '4,4'\)"):
        space_timesteps(7, "4,4")


MEASURES = {  # what is even, as a function of sigma = sqrt((1 - alpha_bar) / alpha_bar)
    "log-SNR": (log_snr_timesteps, torch.log),
    "rho 7": (karras_timesteps, lambda sigma: sigma ** (1 / 7)),
    "rho 1": (partial(karras_timesteps, rho=1.0), lambda sigma: sigma),
    "rho 3": (partial(karras_timesteps, rho=3.0), lambda sigma: sigma ** (1 / 3)),
}


SCHEDULES = [linear(1000), cosine(1000), cosine(4000), cosine(12)]


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=len)
@pytest.mark.parametrize("sigma_max", [20.0, 80.0, math.inf])
def test_the_measure_is_even_after_respacing(name, schedule, sigma_max):
    timesteps, measure = MEASURES[name]
    sigmas = ((1 - schedule.alpha_bar) / schedule.alpha_bar).sqrt()
    for count in (1, 2, 3, 10, len(schedule)):
        kept = timesteps(schedule, count, sigma_max=sigma_max)
        assert len(kept) == count
        assert all(isinstance(step, float) for step in kept)
        assert all(a < b for a, b in pairwise(kept))
        assert kept[0] > 0
        assert kept[-1] <= len(schedule) - 1
        spaced = schedule.respace(kept)
        values = measure(((1 - spaced.alpha_bar) / spaced.alpha_bar).sqrt())
        ends = measure(sigmas[0]), measure(sigmas[-1].clamp(max=sigma_max))
        parts = torch.arange(1, count + 1, dtype=torch.float64) / count
        even = ends[0] + parts * (ends[1] - ends[0])
        assert torch.allclose(values, even, rtol=1e-9, atol=1e-11), count


@pytest.mark.parametrize("name", MEASURES)
def test_a_process_that_ends_below_the_cap_is_kept_whole(name):
    timesteps, _ = MEASURES[name]
    assert timesteps(linear(1000), 10, sigma_max=1e3)[-1] == 999
    assert timesteps(cosine(50), 1, sigma_max=math.inf) == [49.0]
    assert timesteps(cosine(1), 1) == [0.0]


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("sigma_max", [0.0, -1.0, 1e-3, math.nan])
def test_a_cap_below_the_cleanest_step_is_refused(name, sigma_max):
    with pytest.raises(ValueError, match=f"sigma_max={sigma_max} must be above .*0.0064"):
        MEASURES[name][0](cosine(1000), 5, sigma_max=sigma_max)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("count", [0, -1, 51])
def test_uneven_timesteps_name_the_numbers_they_refuse(name, count):
    with pytest.raises(ValueError, match=f"take {count} steps of a process of 50: use 1 to 50"):
        MEASURES[name][0](cosine(50), count)


@pytest.mark.parametrize("rho", [0.0, -7.0, float("nan"), float("inf")])
def test_a_rho_that_bends_nothing_is_refused(rho):
    with pytest.raises(ValueError, match=f"rho={rho} must be above 0"):
        karras_timesteps(cosine(50), 5, rho)


def test_a_larger_rho_puts_more_steps_near_the_data():
    lowest = [karras_timesteps(linear(1000), 3, rho)[0] for rho in (1.0, 3.0, 7.0, 100.0)]
    assert lowest == sorted(lowest, reverse=True)
    # and in the limit is even in log-SNR
    limit = log_snr_timesteps(linear(1000), 3)[0]
    assert karras_timesteps(linear(1000), 3, 1e6)[0] == pytest.approx(limit, rel=1e-4)


def test_a_count_may_be_a_number():
    assert space_timesteps(1000, 20) == space_timesteps(1000, "20")
    with pytest.raises(ValueError, match="is invalid"):
        space_timesteps(1000, 0)
