import json

import pytest
import torch

from iddpm.training.nonfinite_steps import SHOWN, BadSteps, advice, describe
from iddpm.training.step import StepResult


def result(loss, norm=1.0, spike=False):
    loss = torch.tensor(loss)
    t = torch.arange(len(loss))
    return StepResult(t, loss, loss, None, norm, skipped=True, bad=not spike, spike=spike)


def name(step, rows):
    return [(100 * step + row, f"cats/{row}.png") for row in rows]


def read(directory):
    lines = (directory / "bad_steps.jsonl").read_text().splitlines()
    refuse = pytest.fail  # NaN and Infinity are no JSON
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_only_the_items_whose_own_loss_is_not_finite_are_named(tmp_path):
    said = []
    met = result([1.0, float("nan"), 2.0, float("inf")], float("nan"))
    BadSteps(tmp_path, 0, name).note(8, met, said.append)
    assert said == [
        "step 8 was skipped: the loss of 2 of 4 items is not finite, first of cats/1.png at t=1; "
        f"{tmp_path / 'bad_steps.jsonl'} lists all skipped steps"
    ]
    assert read(tmp_path) == [
        {
            "step": 8,
            "cause": "loss",
            "loss": "nan",
            "gradient_norm": "nan",
            "bad_items": 2,
            "items": [
                {"index": 701, "key": "cats/1.png", "t": 1, "loss": "nan"},
                {"index": 703, "key": "cats/3.png", "t": 3, "loss": "inf"},
            ],
        }
    ]


def test_a_gradient_names_no_item_and_only_the_first_is_reported(tmp_path):
    met = {
        "gradient is not finite (norm inf), and every loss is": result([1.0, 2.0], float("inf")),
        "a spike, with loss 1.5 and gradient norm 40": result([1.0, 2.0], 40.0, spike=True),
    }
    for words, one in met.items():
        assert words in describe(one)
    said = []
    bad = BadSteps(tmp_path, 0, name)
    for step, one in enumerate(met.values(), 3):
        bad.note(step, one, said.append)
    assert len(said) == 1
    assert [(r["cause"], r["bad_items"], r["items"]) for r in read(tmp_path)] == [
        ("gradient", 0, []), ("spike", 0, []),
    ]  # fmt: skip


def test_a_whole_batch_is_counted_and_some_of_it_named(tmp_path):
    BadSteps(tmp_path, 0, name).note(1, result([float("nan")] * 100), print)
    assert read(tmp_path)[0]["bad_items"] == 100
    assert len(read(tmp_path)[0]["items"]) == SHOWN


def test_what_a_resume_repeats_is_dropped(tmp_path):
    bad = BadSteps(tmp_path)
    for step in (2, 5, 7):
        bad.note(step, result([float("nan")]), print)
    with (tmp_path / "bad_steps.jsonl").open("a") as file:
        file.write('{"step": 3, "cau\n{"step": 4, "cau')  # cut short by a full disk, and a crash
    BadSteps(tmp_path, 5).note(7, result([1.0], float("inf")), print)
    assert [(r["step"], r["cause"]) for r in read(tmp_path)] == [
        (2, "loss"), (5, "loss"), (7, "gradient"),
    ]  # fmt: skip


def test_advice_depends_on_whether_some_items_or_all_are_bad():
    assert advice(result([1.0, float("nan")])).startswith("check the items in bad_steps.jsonl")
    for both in ([float("nan")] * 2, [1.0, 2.0]):
        assert advice(result(both, float("nan"))).startswith("resume with a lower")
