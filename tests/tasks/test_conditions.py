"""Conditions from a table beside the data, and samples with the requested conditions."""

import io
import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from rich.console import Console

import iddpm
from iddpm.builders.run_data import open_split
from iddpm.cli.main import run as command
from iddpm.runs.run import Run
from iddpm.tasks.draw import DrawRequest, draw
from iddpm.tasks.likelihood import likelihood
from iddpm.tasks.samples import draw_samples
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, assert_same_state

COUNT = 400
QUIET = Console(file=io.StringIO())
ROUND = 2 * np.pi * np.arange(8) / 8


def wave(level, degrees):
    """A wave that begins at that angle, with so much of its octave."""
    return 0.4 * np.cos(ROUND - np.deg2rad(degrees)) + 0.5 * level * np.cos(2 * ROUND)


def train(data, out, settings, **options):
    return iddpm.train(data, out=out, settings=settings, reporter=SilentReporter(), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """400 waves of unlike level and angle, a table of them, and a model of both."""
    folder = tmp_path_factory.mktemp("conditions")
    generator = np.random.default_rng(0)
    level, degrees = generator.uniform(-1, 1, COUNT), generator.uniform(0, 360, COUNT)
    waves = np.stack([wave(*pair) for pair in zip(level, degrees, strict=True)])
    np.savez(folder / "waves.npz", arr_0=waves[..., None], arr_1=(level > 0).astype(int))
    with open(folder / "waves.csv", "w") as file:
        file.write("row,level,degrees,side\n")
        for k, (a, b) in enumerate(zip(level, degrees, strict=True)):
            unknown = k % 7 == 0
            file.write(f"{k},{100 * a:.4f},{'' if unknown else f'{b:.3f}'},{'lr'[int(b < 180)]}\n")
    train(
        folder / "waves.npz",
        folder / "run",
        [
            *TINY,
            "data.conditions=waves.csv",
            "model.conditions={level: {}, degrees: {period: 360}}",
            "model.model_channels=16",
            "model.attention_downsampling=[]",
            "diffusion.predicts=v",
            "diffusion.variance=fixed_small",
            "diffusion.loss=simple",
            "training.steps=200",
            "training.batch_size=32",
            "training.learning_rate=4e-3",
            "training.ema_rates=[0.95]",
            "sampling.steps=12",
        ],
    )
    return folder


def level_of(x):
    return (x * np.cos(2 * ROUND)).sum(axis=(1, 2)) / 2


def angle_of(x):
    return np.rad2deg(np.arctan2((x * np.sin(ROUND)).sum((1, 2)), (x * np.cos(ROUND)).sum((1, 2))))


def test_samples_have_the_requested_conditions(folder):
    run = iddpm.load(folder / "run")
    x = run.sample(24, conditions={"level": "-80..80", "degrees": "90"}).numpy()
    assert np.abs(level_of(x) - np.linspace(-0.8, 0.8, 24)).mean() < 0.25
    assert np.abs(angle_of(x) - 90).mean() < 35
    wanted = np.arange(24) * 15.0
    x = run.sample(24, conditions={"degrees": list(wanted), "level": 0}).numpy()
    off = (angle_of(x) - wanted + 180) % 360 - 180
    assert np.abs(off).mean() < 30
    # Left open, a condition is as in the data; the other still holds.
    x = run.sample(24, conditions={"degrees": 0}).numpy()
    assert np.abs((angle_of(x) + 180) % 360 - 180).mean() < 35
    assert (level_of(x)).std() > 0.25
    x = run.sample(24, conditions={"level": 50}).numpy()
    assert np.abs(level_of(x) - 0.5).mean() < 0.3
    assert len(np.unique(np.round(angle_of(x) / 90))) >= 3


def test_a_whole_turn_draws_the_same_and_guidance_exaggerates(folder):
    run = iddpm.load(folder / "run")
    same = [run.sample(2, conditions={"level": 0, "degrees": d}) for d in (0, 360, "-360")]
    torch.testing.assert_close(same[0], same[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(same[0], same[2], atol=1e-6, rtol=0)
    plain, more = (
        level_of(run.sample(8, conditions={"level": 60}, guidance=g).numpy()).mean() for g in (1, 2)
    )
    assert more > plain + 0.03


def test_guidance_of_nothing_is_refused(folder, tmp_path, capsys):
    run = iddpm.load(folder / "run")
    with pytest.raises(ValueError, match=r"guidance=8 needs.*--condition level=\.\.\. or "):
        run.sample(2, guidance=8)
    with pytest.raises(ValueError, match="needs a class or conditions"):
        run.sample(2, guidance=0, conditions={"level": ""})
    assert run.sample(2, guidance=8, conditions={"level": 3}, steps=1).isfinite().all()
    out = tmp_path / "out"
    status = command(
        ["sample", str(folder / "run"), "-n", "2", "--guidance", "8", "--out", str(out)]
    )
    assert status == 2
    assert "error: guidance=8 needs" in capsys.readouterr().err
    assert not out.exists()


def test_an_items_own_conditions_are_what_makes_it_likely(folder, tmp_path):
    run = iddpm.load(folder / "run")
    own = likelihood(run, console=QUIET)
    with np.load(folder / "waves.npz") as arrays:
        held_out = open_split(run.config).held_out
        np.savez(tmp_path / "some.npz", arr_0=arrays["arr_0"][held_out])
    rows = [line.split(",") for line in (folder / "waves.csv").read_text().splitlines()]
    others = [rows[1 + k] for k in held_out]
    bounds = []
    for name, shift in (("own", 0), ("of others", 5)):
        with open(tmp_path / "table.csv", "w") as file:
            file.write(",".join(rows[0]) + "\n")
            for k in range(len(others)):
                cells = others[(k + shift) % len(others)][1:]
                file.write(",".join([str(k), *cells]) + "\n")
        found = likelihood(
            run, tmp_path / "some.npz", conditions=tmp_path / "table.csv", console=QUIET
        )
        bounds.append((name, found.total.mean))
    assert bounds[0][1] == pytest.approx(own.total.mean, abs=0.6)  # the same items, other noise
    assert bounds[1][1] > bounds[0][1] + 1
    with pytest.raises(ValueError, match=r"is conditioned on level, degrees: .*--conditions"):
        likelihood(run, tmp_path / "some.npz", console=QUIET)
    with pytest.raises(ValueError, match="needs data, and came with no other data"):
        likelihood(run, conditions=tmp_path / "table.csv", console=QUIET)


def test_what_is_measured_has_the_conditions_of_training_items(folder, monkeypatch):
    run, given = Run(folder / "run"), []
    split = open_split(run.config)
    kept = Run.sample_batches

    def listened(self, n, plan=None, **options):
        given.append(options["given"]["conditions"])
        return kept(self, n, plan, **options)

    monkeypatch.setattr(Run, "sample_batches", listened)
    first = draw_samples(run, 6, {"steps": 2}, split, 0, None, QUIET)
    draw_samples(run, 9, {"steps": 2}, split, 0, None, QUIET)  # goes on where that ended
    encoded = torch.cat(given)
    rows = split.source.conditions[split.train]
    for row in encoded.numpy():
        assert any(np.array_equal(row, known, equal_nan=True) for known in rows)
    assert len(encoded) == 9
    assert "as in the training data" in first.facts["conditions"]
    assert len({tuple(row) for row in encoded.nan_to_num(-9).tolist()}) > 5


def test_the_command_records_the_requested_conditions(folder, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--steps", "2"]
    requested = ["--condition", "level=-50..50", "--condition", "degrees=20,200"]
    assert command(["sample", str(folder / "run"), "-n", "3", *requested, *out, "--npz"]) == 0
    assert "level -50, 0, 50; degrees 20, 200\n" in capsys.readouterr().out
    table = (tmp_path / "out/conditions.csv").read_text()
    assert table == "file,level,degrees\n0,-50,20\n1,0,200\n2,50,20\n"
    with np.load(tmp_path / "out/samples.npz") as arrays:
        assert arrays["conditions/level"].tolist() == [-50, 0, 50]
        assert arrays["conditions/degrees"].tolist() == [20, 200, 20]
    # Its own samples are data again, with their conditions.
    members = "data.conditions=[level, degrees]"
    again = [*TINY, "training.steps=1", "training.batch_size=2", "data.held_out=0", members]
    run = train(tmp_path / "out/samples.npz", tmp_path / "again", again)
    assert run.config.model.conditions["level"].range == (-50, 50)
    assert command(["sample", str(folder / "run"), "-n", "2", *out]) == 0
    assert "level not set; degrees not set\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ("weight=3", "weight is not a condition of RUN: it has level, degrees"),
        ("level=bright", "level=bright is not a number"),
        ("level=a..3", "level=a is not a number: a range is written as level=20..80"),
        ("level", "'level' is not a condition: write it as --condition age=63"),
        (["level=1", "level=2"], "level was set twice; write several values as"),
    ],
)
def test_impossible_conditions_raise_an_error(folder, requested, message, capsys):
    flags = [
        f
        for one in ([requested] if isinstance(requested, str) else requested)
        for f in ("--condition", one)
    ]
    assert command(["sample", str(folder / "run"), "-n", "2", *flags]) == 2
    assert message.replace("RUN", str(folder / "run")) in capsys.readouterr().err


def test_numbers_beyond_the_training_are_drawn_with_a_warning(folder):
    run = Run(folder / "run")
    with pytest.warns(UserWarning, match=r"level=300 is outside the range -9\d.* to 9"):
        run.ask(2, {"level": 300})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.ask(2, {"level": 99, "degrees": 3600})
    with pytest.raises(ValueError, match="level has 3 values for 2 samples"):
        run.ask(2, {"level": [1, 2, 3]})


def small(*more):
    return [*TINY, "training.keep_checkpoints=9", "training.label_dropout=0.3", *more]


def test_resume_is_exact_and_notices_another_table(tmp_path, folder):
    """With words, a class, dropout, missing cells and workers."""
    for name in ("waves.npz", "waves.csv"):
        shutil.copy(folder / name, tmp_path / name)
    data = tmp_path / "waves.npz"
    options = small("data.conditions=waves.csv", "model.class_conditional=true")
    train(data, tmp_path / "whole", [*options, "training.steps=12", "training.preview_every=12"])
    assert (tmp_path / "whole/samples/step_00000012.png").is_file()
    train(data, tmp_path / "parts", [*options, "training.steps=5"])
    config = Run(tmp_path / "parts").config
    assert list(config.model.conditions) == ["level", "degrees", "side"]
    assert config.model.conditions["side"].names == ("l", "r")
    changed = (tmp_path / "waves.csv").read_text().replace("\n3,", "\n3,2", 1).replace("2-", "-2")
    (tmp_path / "changed.csv").write_text(changed)
    (tmp_path / "waves.csv").rename(tmp_path / "moved.csv")
    go_on = {"out": tmp_path / "parts", "resume": True}
    with pytest.raises(ValueError, match=r"has changed since .* \(other conditions\)"):
        train(None, settings=["training.steps=12", "data.conditions=changed.csv"], **go_on)
    with pytest.raises(ValueError, match="cannot continue with model"):
        train(None, settings=["model.conditions.level.range=[0, 1]"], **go_on)
    moved = ["training.steps=12", f"data.conditions={tmp_path / 'moved.csv'}", "data.workers=1"]
    train(None, settings=moved, **go_on)
    assert_same_state(tmp_path / "whole", tmp_path / "parts", 12)
    assert "conditions" in json.loads((tmp_path / "parts/data.json").read_text())


def test_a_model_without_label_dropout_needs_every_condition(tmp_path, folder):
    options = ["training.steps=1", f"data.conditions={folder / 'waves.csv'}"]
    run = train(folder / "waves.npz", tmp_path / "run", small(*options, "training.label_dropout=0"))
    with pytest.raises(ValueError, match=r"label_dropout=0 and needs a value of degrees"):
        run.sample(1, conditions={"level": 3, "side": "l"})
    x = run.sample(2, conditions={"level": 3, "side": ["l", "r"], "degrees": 7}, steps=1)
    assert x.shape == (2, 1, 8)
    with pytest.raises(ValueError, match="side=x is none of its 2 words: l, r"):
        draw(
            run,
            DrawRequest(1, conditions={"level": 3, "side": "x", "degrees": 7}),
            console=QUIET,
        )
