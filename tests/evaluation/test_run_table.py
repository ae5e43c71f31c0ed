"""The table of several runs, of reports that differ in what they hold."""

import pytest

from iddpm.evaluation.metrics import METRICS
from iddpm.evaluation.run_table import differences, records, table


def report(name, value, **more):
    numbers = dict.fromkeys(METRICS, value)
    numbers["frechet_distance"] = {"value": value, "error": 0.5}
    numbers["kernel_distance"] = {"value": value / 1000, "error": 0.001}
    return {
        "run": name,
        "frechet_name": "Frechet distance (a)",
        "features": {"name": "a", "hash": "1"},
        "reference": {"split": "2"},
        "samples": {"count": 10, **numbers},
        **more,
    }


def nearness(psnr):
    number = {"value": psnr, "error": 0.1}
    return {"ways": {"samples": {"psnr": number, "ssim": number}, "linear": {}}}


def test_a_cell_for_each_number_and_none_where_there_is_none():
    first, second = report("one", 2.0), report("two", 3.0, paired=nearness(21.0))
    lines = table([first, second]).splitlines()
    assert "| measure | one | two | better |" in lines
    assert "| Frechet distance (a) | 2 +- 0.5 | 3 +- 0.5 | lower |" in lines
    assert "| kernel distance x 1000 | 2 +- 1 | 3 +- 1 | lower |" in lines
    assert "| PSNR in dB | - | 21 +- 0.1 | higher |" in lines
    assert not [line for line in lines if "Warning" in line]
    found = records([first, second])
    assert (found[1]["psnr"], found[1]["psnr_error"]) == (21.0, 0.1)
    assert "psnr" not in found[0]
    sharper = report("three", 1.0, super_resolution=nearness(30.0))
    assert records([sharper])[0]["ssim"] == 30.0


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"features": {"name": "a", "hash": "3"}}, "different features"),
        ({"reference": {"split": "3"}}, "different real data"),
        ({"samples": {**report("", 1.0)["samples"], "count": 9}}, "different numbers of samples"),
        ({"frechet_name": "FID", "kernel_name": "KID"}, None),
    ],
)
def test_what_makes_numbers_incomparable_is_warned_of(change, what):
    both = [report("one", 1.0), report("two", 1.0) | change]
    assert [what in warning for warning in differences(both)] == ([True] if what else [])
    assert (what or "| Frechet distance (a) / FID |") in table(both)
