"""Measuring which sampler is best for a run."""

import json
import shutil

import numpy as np
import pytest
from rich.console import Console

import iddpm
from iddpm.cli.main import run as command_line
from iddpm.evaluation.tuning import Score
from iddpm.runs.fitted_steps import fitted_steps
from iddpm.tasks import tune as module
from iddpm.tasks.tune import Method, TuneRequest, best_of, grid_at, tune
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images

SMALL = (
    Method("dpmpp_2m_sde", "karras"),
    Method("ipndm", "fitted"),
    Method("unipc_2", "log_snr"),
)
REQUEST = TuneRequest(n=100, evaluations=(2, 5))
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune")
    np.savez(folder / "x.npz", arr_0=np.concatenate([images(), 255 - images()]))
    settings = [*TINY, "training.steps=3", "data.held_out=0.1"]
    iddpm.train(folder / "x.npz", out=folder / "run", settings=settings, reporter=SilentReporter())
    return folder / "run"


@pytest.fixture
def run(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GRID", SMALL)
    return iddpm.load(shutil.copytree(directory, tmp_path / "run"))


def test_an_interrupted_call_continues_and_ends_as_if_it_had_not_been(run, monkeypatch, tmp_path):
    whole = iddpm.load(shutil.copytree(run.directory, tmp_path / "whole"))
    expected = tune(whole, REQUEST, console=QUIET)
    assert set(expected.scores) == {2, 5}
    assert set(expected.scores[5]) == set(SMALL)

    draw, drawn = module.draw_samples, []

    def interrupted(run, n, how, *rest, **more):
        if len(drawn) == 4:
            drawn.append("interrupted")
            raise KeyboardInterrupt
        drawn.append(how)
        return draw(run, n, how, *rest, **more)

    monkeypatch.setattr(module, "draw_samples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(run, REQUEST, console=QUIET)
    assert not (run.directory / "tuned.json").exists()
    found = tune(run, REQUEST, console=QUIET)
    assert len(drawn) == 5 + 2  # of six methods
    assert found.scores == expected.scores
    assert found.won == expected.won
    assert not list((run.directory / "cache").glob("samples_*"))
    chosen = found.won[5]
    method = run.plan(steps=5).method
    assert method == chosen
    facts = json.loads(found.path.read_text())
    scores = facts["scores"]["5"]
    assert set(scores) == {", ".join(method) for method in SMALL}
    assert scores["unipc_2, log_snr"]["score"]["error"] > 0


def score(value, error):
    return Score(value, error, 1.0, 1.0, 1.0)


def test_the_usual_choice_stays_unless_another_is_clearly_better():
    usual, other, last = SMALL
    for better, chosen in [(1.8, usual), (1.5, other)]:  # the error of the difference is 0.28
        scores = {usual: score(2.0, 0.2), other: score(better, 0.2), last: score(3.0, 0.2)}
        assert best_of(scores, usual) == chosen
    narrow = Score(1.5, 0.2, 1.0, 1.0, 0.3)  # nearer, but without the spread of the data
    assert best_of({usual: score(2.0, 0.2), other: narrow}, usual) == usual
    assert best_of({other: score(2.0, 0.2), last: score(1.9, 0.2)}, usual) == last


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--evaluations", "5,x"], "is not a list such as 5,10"),
        (["--evaluations", "5,5"], "must be different numbers from 2 to 50"),
        (["--evaluations", "5,51"], "must be different numbers from 2 to 50"),
        (["--evaluations", "1"], "must be different numbers from 2 to 50"),
        (["-n", "20"], "use 100 or more"),
        (["--features", "nowhere"], "there are no features nowhere"),
    ],
)
def test_bad_input_is_one_sentence(directory, options, message, capsys):
    assert command_line(["tune", str(directory), *options]) == 2
    assert message in capsys.readouterr().err


def test_the_command_prints_a_table(run, capsys):
    arguments = ["tune", str(run.directory), "-n", "100", "--evaluations", "3"]
    assert command_line(arguments) == 0
    out = capsys.readouterr().out
    assert "| evaluations | method | distance | recall | coverage | spread | score |" in out
    assert out.count("| chosen |") == 1
    assert "--sampler auto uses it" in out


KINDS = {
    "super-resolution": ["task=super_resolution", "scale=2", "degradation.augment=0.3",
                         "model.class_conditional=true", "data.held_out=0.5"],
    "conditions": ["data.conditions={folder}/t.csv", "data.held_out=0.1"],
    "own estimate": ["diffusion.self_condition=true", "diffusion.predicts=x0", "data.held_out=0.1"],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run(kind, tmp_path, monkeypatch):
    """Trajectories and samples have the conditioning of items."""
    count = 220
    lines = ["row,age", *(f"{n},{n % 90}" for n in range(count))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    np.savez(tmp_path / "x.npz", arr_0=np.tile(images(), (4, 1, 1, 1))[:count] + np.arange(
        count, dtype=np.uint8)[:, None, None, None] // 4, arr_1=np.arange(count) % 3)  # fmt: skip
    settings = [*TINY, "training.steps=1", *(s.format(folder=tmp_path) for s in KINDS[kind])]
    iddpm.train(
        tmp_path / "x.npz", out=tmp_path / "run", settings=settings, reporter=SilentReporter()
    )
    monkeypatch.setattr(module, "GRID", SMALL[1:2])
    found = tune(iddpm.load(tmp_path / "run"), TuneRequest(n=100, evaluations=(3,)), console=QUIET)
    assert found.won == {3: SMALL[1]}


def test_fitted_steps_are_left_out_where_there_are_too_few_levels(run):
    fitted = fitted_steps(run)
    whole = run.denoiser.diffusion.schedule
    most = fitted.most(whole)
    assert len(fitted.timesteps(whole, most)) == most
    with pytest.raises(ValueError, match="use fewer steps, or another spacing"):
        fitted.timesteps(whole, most + 1)
    few, many = (grid_at(count, run.denoiser, fitted) for count in (2, most + 1))
    left_out = set(few) - set(many)
    assert left_out
    assert {method.spacing for method in left_out} == {"fitted"}
    assert len(many) + len(left_out) == len(few)
