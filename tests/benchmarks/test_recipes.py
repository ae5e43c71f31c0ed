"""The recipe bench in small: rows, judges, a stage from end to end, and the table of records."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
import yaml

from benchmarks.recipes import __main__ as command
from benchmarks.recipes import budget, stages, trials
from benchmarks.recipes.budget import minutes_until
from benchmarks.recipes.comparison import compare, read_records
from benchmarks.recipes.corruptions import blurred, noisy, rises, shuffled
from benchmarks.recipes.data_sets import DataSet, data_sets
from benchmarks.recipes.encoder import damaged, train_encoder, vicreg, view
from benchmarks.recipes.rows import Row, merge, read_row, row_names
from benchmarks.recipes.stages import finalists
from benchmarks.recipes.table import write_table
from benchmarks.recipes.trials import Places, Trial, perform
from iddpm.config import read_config
from iddpm.runs.classifier import load_classifier
from iddpm.runs.layout import read_run_config
from tests.conftest import TINY, images

SMALL = {"model_channels": 8, "channel_mult": [1, 2], "attention_downsampling": []}
PLACED = ("model.", "training.batch_size", "training.precision", "training.threads")
SHORT = (*(s for s in TINY if s.startswith(PLACED)), "training.steps=2")
"""What makes the base small and leaves its recipe."""


@pytest.fixture
def digits(tmp_path):
    """The base of the digits with other pictures, and a judge of two steps."""
    path = tmp_path / "digits.npz"
    np.savez(path, arr_0=images(150), arr_1=np.arange(150) % 3)
    judge = {
        "task": "classification",
        "model": {**SMALL, "num_res_blocks": 1, "num_heads": 2},
        "training": {"precision": "float32", "threads": 1, "batch_size": 8},
    }
    return DataSet(
        "digits", lambda: str(path), judge, 2, samples=20, evaluations=2, bound_items=8,
        bound_looks=2,
    )  # fmt: skip


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "records", tmp_path / "runs", tmp_path / "judges")


def test_rows_are_settings_of_every_data_set_that_they_are_for():
    known = data_sets()
    bases = {name: data.base() for name, data in known.items()}
    unchanged = {name: read_config(None, [], base) for name, base in bases.items()}
    for row in map(read_row, row_names()):
        assert set(row.by_data) | set(row.data) <= set(known), row.name
        for data in row.data or known:
            config = read_config(None, [], row.merged(bases[data], data))
            if row.settings or row.without_base or data in row.by_data:
                assert config != unchanged[data], f"{row.name} changes nothing of {data}"


def test_a_section_of_another_kind_replaces_the_one_below():
    base = {"loss": {"kind": "hybrid", "vb_weight": 0.1}, "rate": 1}
    assert merge(base, {"loss": {"kind": "simple"}}) == {"loss": {"kind": "simple"}, "rate": 1}
    assert merge(base, {"loss": {"space": "v"}})["loss"] == {**base["loss"], "space": "v"}


def test_a_row_of_defaults_keeps_how_the_data_is_read():
    base = data_sets()["digits"].base()
    found = read_row("defaults").merged(base, "digits")
    read = {"labels": "auto", "held_out": 0.2}
    assert found == {"data": read, "model": {"class_conditional": True}}


def test_rows_together_have_the_settings_of_all(tmp_path):
    rows = {
        "a": {"tries": "a", "published": "-", "settings": {"x": 1, "y": {"z": 2}}},
        "b": {"tries": "b", "published": "-", "settings": {"x": 3}, "data": ["mri"]},
        "c": {"tries": "c", "published": "-", "together": ["a", "b"]},
    }
    for name, content in rows.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    assert read_row("c", tmp_path).settings == {"x": 3, "y": {"z": 2}}
    assert read_row("a+b", tmp_path).settings == read_row("c", tmp_path).settings
    assert read_row("a+b", tmp_path).data == ("mri",)
    with pytest.raises(ValueError, match="no row 'd': use a, b, c, or several"):
        read_row("a+d", tmp_path)


def test_a_stage_is_trained_once_and_compared(digits, places, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stages, "data_sets", lambda: {"digits": digits})
    monkeypatch.setattr(stages, "BASE_SEEDS", (0,))
    settings = [word for setting in SHORT for word in ("-s", setting)]
    page = tmp_path / "recipes.md"
    stage = [
        "screen",
        "--rows",
        "base",
        "posthoc",
        "--data",
        "digits",
        "--page",
        str(page),
        *settings,
    ]
    assert command.main(stage, places) == 0
    records = read_records(places.records)
    assert [(r["row"], r["steps"], r.get("failed")) for r in records] == [
        ("base", 2, None), ("posthoc", 2, None)
    ]  # fmt: skip
    assert [r["measures"]["ema_length"] in (0.05, 0.1) for r in records] == [False, True]
    assert all(r["measures"]["bound"]["unit"] == "bits/dim" for r in records)
    assert all(r["threads"] == torch.get_num_threads() for r in records)
    assert "## digits, 5 minutes" in page.read_text()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path != page}
    assert command.main(stage, places) == 0
    assert capsys.readouterr().out.count("done before") == 2
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_failures_are_kept_and_interruptions_are_not(digits, places, monkeypatch):
    row = Row("wrong", "a setting that is gone", "-", {"model": {"gone": 1}})
    record = perform(Trial(row, digits, 5, 0, SHORT), places)
    assert record["failed"].startswith("ValueError: ")
    assert "gone" in record["failed"]
    assert "- wrong: ValueError" in write_table(places, places.runs / "page.md").read_text()

    trial = Trial(Row("base", "-", "-"), digits, 5, 0, SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(trials, "measure_run", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            perform(trial, places)
    assert not trial.record(places).exists()
    killed = trial.run(places)
    (killed / "exit.json").unlink()  # as if killed before the end of training
    assert budget._left(killed, 300) == 300  # planned, and goes on with the plan
    with monkeypatch.context() as patch:
        patch.setattr(budget, "read_run_config", lambda _: _without_anneal(killed))
        assert 0 < budget._left(killed, 300) < 300
    assert perform(trial, places)["steps"] == 2
    other = dataclasses.replace(trial, row=Row("base", "-", "-", {"model": {"dropout": 0.5}}))
    assert perform(other, places)["steps"] == 2  # other settings: trained, in a place of its own
    assert len(list((places.runs / "5m" / "digits").iterdir())) == 2
    more = dataclasses.replace(trial, settings=(*SHORT, "model.dropout=0.5"))
    assert more.run(places) not in (trial.run(places), other.run(places))


def _without_anneal(run):
    config = read_run_config(run)
    training = config.training.model_copy(update={"anneal": "none"})
    return config.model_copy(update={"training": training})


def _interrupted(*arguments):
    raise KeyboardInterrupt


def test_time_is_that_of_all_sessions():
    log = [
        {"step": 10, "time": 1010.0, "seconds": 10.0},
        {"step": 20, "time": 1020.0, "seconds": 20.0},
        {"step": 20},  # without a time
        {"step": 40, "time": 5030.0, "seconds": 30.0},
    ]
    assert [60 * minutes_until(log, step) for step in (5, 20, 30, 40, 50)] == [5, 20, 35, 50, 50]


def record(row, seed, bound, frechet, coverage, data="digits", **others):
    values = {"bound": bound, "frechet": frechet, "precision": 0.5, "recall": 0.5}
    values |= {"coverage": coverage, "copies": 0.0}
    measures = {name: {"value": value, "error": 0.1} for name, value in values.items()}
    measures["bound"]["unit"] = "bits/dim"
    return {
        "row": row, "tries": row, "published": "-", "data": data, "minutes": 5, "seed": seed,
        "digest": row, "judge": "j", "when": 1, "threads": 2, "processor": "p", "steps": 10,
        "trained_minutes": 5.0, "measures": measures, **others,
    }  # fmt: skip


def test_differences_are_in_standard_errors_of_the_spread_over_seeds(places):
    records = [
        *(record("base", seed, 2.0 + 0.1 * seed, 10.0, 0.5) for seed in range(3)),
        record("good", 0, 1.9, 8.0, 0.6),
        record("bad", 0, 2.5, 12.0, 0.4),
        record("old", 0, 1.0, 1.0, 0.9, judge="another", when=0),
        {**record("gone", 0, 1, 1, 1), "failed": "ValueError: gone"},
    ]
    found = compare(records)[5, "digits"]
    assert [line.row for line in found.lines] == ["good", "base", "bad"]
    assert found.failures == {"gone": "ValueError: gone"}
    assert found.left_out == 1
    # The base's mean is 2.1 and its standard deviation 0.1; one seed has that error.
    error = 0.1 * (1 + 1 / 3) ** 0.5
    by_row = {line.row: line.values["bound"] for line in found.lines}
    assert by_row["good"].better == pytest.approx(0.2 / error)
    assert by_row["bad"].better == pytest.approx(-0.4 / error)
    assert by_row["base"].better is None
    for number, each in enumerate(records):
        path = places.records / "5m" / "digits" / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(each))
    assert finalists(places, 5, 1) == ["good"]
    assert finalists(places, 15, 1) == []
    text = write_table(places, places.records / "page.md").read_text()
    assert "| 1.0 | good | 1.90 +- 0.10 (+1.7) |" in text


def test_without_seeds_errors_are_those_of_the_measurement():
    found = compare([record("base", 0, 2.0, 10.0, 0.5), record("good", 0, 1.8, 9.0, 0.6)])
    values = found[5, "digits"].lines[0].values
    assert not found[5, "digits"].by_seeds
    assert values["bound"].better == pytest.approx(0.2 / (0.1 * 2**0.5))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_damage(dims):
    x = torch.randn(6, 2, *[9] * dims, generator=torch.Generator().manual_seed(0))
    mixed = shuffled(x, 4)  # pieces of 2 and one position that stays
    assert torch.equal(mixed.flatten(1).sort().values, x.flatten(1).sort().values)
    assert torch.equal(mixed[..., 8], x[..., 8])
    assert not torch.equal(mixed, x)
    pair = x[0, :, *[slice(0, 2)] * dims]
    pieces = [
        mixed[0, :, *(slice(start, start + 2) for start in corner)]
        for corner in itertools.product(range(0, 8, 2), repeat=dims)
    ]
    assert sum(torch.equal(pair, piece) for piece in pieces) == 1
    even = torch.full_like(x, 0.3)
    assert torch.allclose(blurred(even, 1.0), even)
    assert blurred(x, 2.0).std() < blurred(x, 0.5).std() < x.std()
    difference = noisy(x / 10, 0.2) - x / 10
    assert float(difference.std() / (x / 10).std()) == pytest.approx(0.2, rel=0.2)
    torch.manual_seed(0)
    assert view(x, dims - 1).shape == x.shape
    changed, amount = damaged(x.clone(), 1.0)
    same = (changed == x).flatten(1).all(dim=1)
    assert torch.equal(same, (amount == 0).all(dim=1))


def test_a_view_mirrors_the_axis_that_is_named():
    x = torch.arange(8.0).reshape(1, 1, 8, 1).expand(400, 1, 8, 8) / 8
    torch.manual_seed(0)
    assert bool((view(x, 1).diff(dim=2) >= 0).all())  # rows stay in order
    down = (view(x, 0).diff(dim=2) <= 0).flatten(1).all(dim=1)
    assert 0.3 < float(down.double().mean()) < 0.5  # half of the four in five that are changed


def test_vicreg_is_least_for_outputs_that_agree_vary_and_do_not_repeat():
    generator = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(512, 4, generator=generator)
    same = vicreg(z, z)
    assert same < 0.5
    assert vicreg(z, z.flip(0)) > same + 10
    assert vicreg(0.01 * z, 0.01 * z) > same + 10
    assert vicreg(z[:, :1].expand(-1, 4), z[:, :1].expand(-1, 4)) > same + 10


@pytest.mark.parametrize("dims", [1, 3])
def test_an_encoder_serves_as_features(tmp_path, dims):
    data = tmp_path / "data.npy"
    values = np.random.default_rng(0).integers(0, 256, (20, *[8] * dims), dtype=np.uint8)
    np.save(data, values)
    settings = {
        "data": {"layout": "NL" if dims == 1 else "NDHW", "held_out": 0.3},
        "model": {**SMALL, "num_res_blocks": 1, "num_heads": 2},
    }
    facts = train_encoder(data, settings, 2, 16, tmp_path / "encoder")
    assert facts["steps"] == 2
    judge = load_classifier(tmp_path / "encoder")
    features = judge.features(torch.rand(5, 1, *[8] * dims))
    assert features.shape == (5, 16)
    assert float(features.std(dim=0).min()) > 0


def test_a_distance_that_falls_somewhere_does_not_rise():
    assert rises({"blur": [1.1, 1.2], "noise": [1.01, 3.0]})
    assert not rises({"blur": [1.2, 1.1]})
    assert not rises({"blur": [0.9, 1.1]})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["screen", "--rows", "magic"], "no row 'magic'"),
        (["screen", "--data", "faces"], "no data set 'faces'"),
        (["screen", "--minutes", "0"], "must be above 0"),
        (["finalists"], "no records of 5 minutes"),
    ],
)
def test_what_does_not_exist_is_refused_in_a_sentence(places, capsys, arguments, said):
    assert command.main(arguments, places) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
