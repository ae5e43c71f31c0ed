"""Distillation of runs: every kind of data, resuming, samples, and what it refuses."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import iddpm
from iddpm.builders import build_optimizer
from iddpm.cli.main import run as command
from iddpm.runs.layout import read_run_config
from iddpm.runtime.processes import ALONE
from iddpm.tasks.distill import distillation_request
from iddpm.tasks.export import export
from iddpm.tasks.likelihood import likelihood
from iddpm.tasks.training_setup import (
    TrainRequest,
    build_training,
    choose,
    first_weights,
    open_training,
    plan_length,
)
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, assert_same_state, images

QUIET = SilentReporter()
PLAIN = (*TINY, "training.steps=2", "diffusion.predicts=v", "training.ema_rates=[0.9]")
FEW = ("training.steps=2", "training.preview_every=0", "training.validate_every=0")


def classes(count=60):
    return {"arr_0": images(count), "arr_1": np.arange(count) % 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A teacher with classes, and a run distilled from it in four steps, each a checkpoint."""
    folder = tmp_path_factory.mktemp("distill")
    np.savez(folder / "x.npz", **classes())
    teacher = ("model.class_conditional=true", "model.dropout=0.1")
    iddpm.train(folder / "x.npz", out=folder / "t", settings=PLAIN + teacher, reporter=QUIET)
    watched = ("save_every=1", "keep_checkpoints=9", "validate_every=2", "preview_every=4")
    settings = ("training.steps=4", *(f"training.{name}" for name in watched))
    iddpm.distill(folder / "t", out=folder / "d", settings=settings, reporter=QUIET)
    return folder


def test_a_distilled_run_is_a_run_like_any_other(folder, capsys):
    run = iddpm.load(folder / "d", checkpoint="best")
    made = run.config.distillation
    assert (made.teacher, made.steps, made.method) == (
        str(folder / "t"),
        (1, 2, 4),
        "consistency_tuning",
    )
    assert run.config.training.gradient_clip is None
    assert isinstance(build_optimizer(run.config, nn.Linear(1, 1)), torch.optim.RAdam)
    measured = [r for r in run.log if "held_out_loss" in r]
    assert [r["step"] for r in measured] == [2, 4]
    for record in measured:
        mean = (record["frechet_1"] + record["frechet_2"]) / 2
        assert record["held_out_loss"] == pytest.approx(mean)
    best = min(measured, key=lambda r: r["held_out_loss"])["step"]
    assert (folder / "d/best").read_text().strip() == f"step_{best:08d}"
    assert (folder / "d/samples/step_00000004.png").is_file()
    assert command(["info", str(folder / "d")]) == 0
    said = capsys.readouterr().out
    assert "for 1, 2 or 4 evaluations" in said
    assert f"; Frechet distance {measured[-1]['held_out_loss']:.4f}" in said
    assert "held-out" not in said


def test_the_training_starts_from_the_teachers_average(folder):
    settings = ("training.steps=1", "training.learning_rate=1e-30", *FEW[1:])
    iddpm.distill(folder / "t", out=folder / "still", settings=settings, reporter=QUIET)
    still, teacher = (iddpm.load(folder / n).denoiser.network for n in ("still", "t"))
    for a, b in zip(still.parameters(), teacher.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-20)


def test_a_resumed_run_is_the_same_bit_for_bit(folder):
    again = folder / "again"
    shutil.copytree(folder / "d", again)
    for name in ("step_00000003", "step_00000004"):
        shutil.rmtree(again / "checkpoints" / name)
    iddpm.distill(folder / "t", out=again, resume=True, reporter=QUIET)
    assert_same_state(folder / "d", again)
    kept = [
        {k: v for k, v in record.items() if k in ("step", "loss", "frechet_1", "held_out_loss")}
        for name in ("d", "again")
        for record in iddpm.load(folder / name).log
    ]
    assert kept[: len(kept) // 2] == kept[len(kept) // 2 :]


def test_a_training_without_a_checkpoint_begins_again_from_its_teacher(folder):
    again = folder / "begun"
    shutil.copytree(folder / "d", again)
    shutil.rmtree(again / "checkpoints")
    for name in ("latest", "best", "model.safetensors", "log.jsonl"):
        (again / name).unlink()
    teacher = folder / "other_teacher"
    shutil.copytree(folder / "d", teacher)
    other = [f"distillation.teacher={teacher}"]
    with pytest.raises(ValueError, match="has other weights than when the distillation began"):
        iddpm.train(out=again, resume=True, settings=other, reporter=QUIET)
    iddpm.train(out=again, resume=True, reporter=QUIET)
    assert_same_state(folder / "d", again)


def test_samples_take_the_offered_evaluations(folder):
    run = iddpm.load(folder / "d")
    assert str(run.plan()) == "2 evaluations: consistency, sigma 80, 0.8"
    assert str(run.plan(steps=1)) == "1 evaluation: consistency, sigma 80"
    x = {n: run.sample(4, steps=n, classes=1) for n in (1, 2, 4)}
    assert not torch.equal(x[1], x[2])
    torch.testing.assert_close(x[4][2:], run.sample(4, steps=4, classes=1, batch_size=2)[2:])
    called = []
    run.denoiser.network.register_forward_hook(lambda *_: called.append(1))
    run.sample(2, steps=4)
    assert len(called) == 4


REFUSED = {
    "steps=3 was requested": {"steps": 3},
    "sampler=ddpm was requested": {"sampler": "ddpm", "steps": 2},
    "spacing=optimal was requested": {"spacing": "optimal"},
    "variance=analytic was requested": {"variance": "analytic"},
    "guidance=2 was requested": {"guidance": 2.0},
    "guidance by another model needs": {"autoguidance": 1},
}


@pytest.mark.parametrize("message", REFUSED)
def test_samples_of_other_kinds_are_refused(folder, message):
    with pytest.raises(ValueError, match=message):
        iddpm.load(folder / "d").plan(**REFUSED[message])


def test_other_numbers_of_evaluations_are_one_sentence(folder, capsys):
    assert command(["sample", str(folder / "d"), "-n", "1", "--steps", "3"]) == 2
    error = capsys.readouterr().err
    assert "distilled for 1, 2 or 4 evaluations: use one of these" in error
    assert error.count("\n") == 1


def test_what_needs_a_denoiser_refuses_the_run(folder, capsys):
    run, gone = iddpm.load(folder / "d"), "is no denoiser any more"
    with pytest.raises(ValueError, match=f"{gone}, which a likelihood needs"):
        likelihood(run)
    with pytest.raises(ValueError, match=f"{gone}, which a pipeline"):
        export(run, "diffusers", folder / "pipeline")
    with pytest.raises(ValueError, match=f"{gone}, which distillation needs"):
        iddpm.distill(folder / "d", reporter=QUIET)
    with pytest.raises(ValueError, match=f"{gone}, which autoguidance needs"):
        iddpm.load(folder / "t").plan(autoguidance=folder / "d")
    for words in (["edit", "0"], ["inpaint", "0"], ["interpolate", "0", "1"]):
        assert command([words[0], str(folder / "d"), *words[1:], *extra(folder, words[0])]) == 2
        assert f"{gone}, which editing needs" in capsys.readouterr().err


def extra(folder, name):
    np.save(folder / "mask.npy", np.ones((8, 8), np.uint8))
    return ["--mask", str(folder / "mask.npy")] if name == "inpaint" else []


def test_what_cannot_be_distilled_is_refused_and_nothing_is_written(folder, capsys):
    for name, settings in (("eps", ["diffusion.predicts=eps"]), ("gone", [])):
        out = folder / f"t_{name}"
        iddpm.train(folder / "x.npz", out=out, settings=[*PLAIN, *settings], reporter=QUIET)
    shutil.rmtree(folder / "t_gone/checkpoints")
    (folder / "t_gone/model.safetensors").unlink()
    classifier = [*PLAIN[:-3], "task=classification", "training.steps=1"]
    iddpm.train(folder / "x.npz", out=folder / "t_c", settings=classifier, reporter=QUIET)
    messages = {
        "t_eps": "train a teacher that predicts v or edm",
        "t_gone": "has no checkpoint and no model.safetensors",
        "t_c": "holds a classifier, not a generative model",
        "nothing": "there is no run directory",
    }
    for name, message in messages.items():
        assert command(["distill", str(folder / name), "--out", str(folder / "never")]) == 2
        assert message in capsys.readouterr().err
    close = ["-s", "distillation.divisor=256", "-s", "training.precision=bf16"]
    assert command(["distill", str(folder / "t"), "--out", str(folder / "never"), *close]) == 2
    assert "may see only its rounding" in capsys.readouterr().err
    assert not (folder / "never").exists()
    words = ["distill", str(folder / "t_eps"), "--out", str(folder / "d"), "--resume"]
    assert command(words) == 2
    assert "was distilled from" in capsys.readouterr().err


def test_guidance_becomes_part_of_the_model(folder):
    for scale in (1.0, 4.0):
        out = folder / f"g{scale:g}"
        settings = (*FEW, "distillation.method=consistency_distillation", "training.save_every=1")
        iddpm.distill(folder / "t", out=out, guidance=scale, settings=settings, reporter=QUIET)
    assert iddpm.load(folder / "g4").config.sampling.guidance == 1
    a, b = (iddpm.load(folder / n).sample(2, steps=1) for n in ("g1", "g4"))
    assert not torch.equal(a, b)
    shutil.copytree(folder / "g4", folder / "g5")
    shutil.rmtree(folder / "g5/checkpoints/step_00000002")
    iddpm.distill(folder / "t", out=folder / "g5", resume=True, reporter=QUIET)
    assert_same_state(folder / "g4", folder / "g5")


def resumed(folder, name, **options):
    """Distill in two steps, lose the second, go on, and compare with the undisturbed run."""
    again = folder / f"{name}_again"
    shutil.copytree(folder / name, again)
    shutil.rmtree(again / "checkpoints/step_00000002")
    iddpm.distill(folder / "t", out=again, resume=True, reporter=QUIET, **options)
    assert_same_state(folder / name, again)


def test_a_range_of_scales_is_chosen_from_when_sampling(folder, capsys):
    settings = (
        *FEW,
        "training.validate_every=2",
        "training.save_every=1",
        "training.learning_rate=0.1",
        "training.warmup_steps=0",
    )
    out = folder / "range"
    run = iddpm.distill(
        folder / "t", out=out, guidance=(1.0, 4.0), settings=settings, reporter=QUIET
    )
    assert run.log[-1]["frechet_1"] >= 0
    x = {scale: run.sample(3, steps=1, classes=[0, 1, 2], guidance=scale) for scale in (1, 4)}
    assert not torch.equal(x[1], x[4])
    assert torch.equal(x[1], run.sample(3, steps=1, classes=[0, 1, 2]))  # the teacher's own scale
    resumed(folder, "range")
    written = export(run, "torch", folder / "program")  # the network alone, with all its inputs
    program = torch.export.load(next(path for path in written if path.suffix == ".pt2"))
    assert "guidance" in str(program.call_spec.in_spec)
    assert command(["info", str(out)]) == 0
    assert "1:4, part of the model" in capsys.readouterr().out
    assert command(["sample", str(out), "-n", "2", "--guidance", "5"]) == 2
    assert "was distilled for scales from 1 to 4" in capsys.readouterr().err
    with pytest.raises(ValueError, match="guidance_interval and guidance_rescale change"):
        run.plan(guidance=2.0, guidance_rescale=0.7)


METHODS = {
    "mid_training": (1.0, 3.0),
    "continuous": 2.0,
    "mean_flow": (1.0, 3.0),
    "consistency_tuning": 1.0,  # in stages
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_samples_and_resumes(folder, method):
    settings = [*FEW, f"distillation.method={method}", "training.save_every=1"]
    settings += ["training.precision=float32"]
    if method == "consistency_tuning":
        settings += ["distillation.divisor=2", "distillation.stages=2", "distillation.huber=0.01"]
    run = iddpm.distill(
        folder / "t", out=folder / method, guidance=METHODS[method], settings=settings,
        reporter=QUIET,
    )  # fmt: skip
    assert str(run.plan(steps=1)).startswith(
        "1 evaluation: meanflow" if method == "mean_flow" else "1 evaluation: consistency"
    )
    assert run.sample(2, steps=2).isfinite().all()
    before = iddpm.load(folder / "t").denoiser.network.state_dict()
    after = run.denoiser.network.state_dict()
    assert not all(torch.equal(value, after[name]) for name, value in before.items())
    resumed(folder, method)


BAD = {
    "differences, of which training.precision=bf16 may see only its rounding": [
        "distillation.method=continuous",
        "training.precision=bf16",
    ],
    "divisor=2 with stages=8 compares": ["distillation.divisor=2", "distillation.stages=8"],
    "with distillation.stages=2 the loss jumps": [
        "distillation.divisor=2",
        "distillation.stages=2",
        "training.spike_guard=10",
    ],
    "method=mid_training does not have": [
        "distillation.method=mid_training",
        "distillation.stages=2",
    ],
    "huber=0.1 is not a setting of method=continuous": [
        "distillation.method=continuous",
        "training.precision=float32",
        "distillation.huber=0.1",
    ],
    "optimizer=muon is not for distillation": ["training.optimizer=muon"],
    "guidance=4:1 is empty": ["--guidance", "4:1"],
    "--guidance '1:2:3' is no scale": ["--guidance", "1:2:3"],
    "--guidance 'much' is no scale": ["--guidance", "much"],
}


@pytest.mark.parametrize("message", BAD)
def test_settings_that_do_not_fit_are_one_sentence(folder, message, capsys):
    words = BAD[message]
    if not words[0].startswith("--"):
        words = [word for setting in words for word in ("-s", setting)]
    out = folder / "never"
    assert command(["distill", str(folder / "t"), "--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_stages_go_by_the_length_that_a_time_limit_allows(folder):
    stages = ["distillation.stages=4", "distillation.divisor=2"]
    wanted = TrainRequest(out=folder / "planned", settings=[*stages, "training.max_time=60s"])
    request = distillation_request(folder / "t", wanted)
    opened, _ = choose(open_training(request, ALONE), ALONE)
    network, _ = first_weights(opened, request.init_from, ALONE)
    state, step = build_training(opened, network, None, ALONE)
    opened = plan_length(opened, state)
    assert step.loss_of(7).keywords["divisor"] == 2, "the length is not known yet"
    state.plan.replan(1, 8)
    assert [step.loss_of(at).keywords["divisor"] for at in (0, 2, 4, 7)] == [2, 4, 8, 16]


def test_guidance_that_is_left_out_is_said(folder):
    own = ["training.steps=3", "sampling.guidance=3"]
    shutil.copytree(folder / "t", folder / "t3")
    iddpm.train(out=folder / "t3", resume=True, settings=own, reporter=QUIET)
    with pytest.warns(UserWarning, match="is sampled with guidance=3 by default"):
        run = iddpm.distill(folder / "t3", settings=FEW, reporter=QUIET)
    assert run.directory == folder / "t3_distilled"
    assert run.config.sampling.guidance == 1
    written = export(run, "safetensors", folder / "exported")
    config = read_run_config(written[0].parent)
    assert config.distillation.teacher == "t3"  # its name, and not where it is


def test_a_changed_or_lost_teacher_of_a_guided_run_is_refused(folder):
    shutil.copytree(folder / "t", folder / "t2")
    settings = (*FEW, "training.save_every=1")
    out = folder / "g2"
    iddpm.distill(folder / "t2", out=out, guidance=2, settings=settings, reporter=QUIET)
    (folder / "t2").rename(folder / "moved")
    with pytest.raises(FileNotFoundError, match="there is no run directory"):
        iddpm.train(out=out, resume=True, reporter=QUIET)
    more = ["training.steps=3", f"distillation.teacher={folder / 'moved'}"]
    iddpm.train(out=out, resume=True, settings=more, reporter=QUIET)
    iddpm.train(out=folder / "moved", resume=True, settings=["training.steps=3"], reporter=QUIET)
    with pytest.raises(ValueError, match="has other weights than when the distillation began"):
        iddpm.train(out=out, resume=True, settings=["training.steps=4"], reporter=QUIET)


class Own(nn.Module):
    """A network of a user's own, with a fixed variance."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, timesteps):
        return self.layer(x) + timesteps[:, None, None, None] / 1000


def waves(*shape):
    generator = np.random.default_rng(0)
    return generator.uniform(-1, 1, shape).astype(np.float32).cumsum(axis=1).clip(-1, 1)


KINDS = {
    "1-D, edm": (waves(40, 16, 1), ["diffusion.predicts=edm", "data.layout=NLC"], {}),
    "3-D, x0": (waves(40, 4, 8, 8, 1), ["diffusion.predicts=x0", "data.layout=NDHWC"], {}),
    "pure noise": (images(), ["diffusion.zero_terminal_snr=true", "diffusion.schedule=linear"], {}),
    "self-conditioned": (images(), ["diffusion.self_condition=true"], {}),
    "super-resolution": (images(), ["task=super_resolution", "scale=2"], {}),
    "own network": (images(), [], {"network": Own()}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_distilled(kind, tmp_path):
    data, settings, own = KINDS[kind]
    if own:
        built = [s for s in PLAIN if not s.startswith("model.")]
    else:
        built = PLAIN
    iddpm.train(data, out=tmp_path / "t", settings=[*built, *settings], reporter=QUIET, **own)
    measured = [*FEW[:2], "training.validate_every=2"]
    run = iddpm.distill(
        tmp_path / "t", data, out=tmp_path / "d", settings=measured, reporter=QUIET, **own
    )
    before, after = (iddpm.load(tmp_path / n, **own).denoiser.network for n in ("t", "d"))
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
    assert run.log[-1]["frechet_1"] >= 0
    if kind == "own network":
        with pytest.raises(ValueError, match="does not take: use one scale of guidance"):
            iddpm.distill(
                tmp_path / "t", data, out=tmp_path / "f", reporter=QUIET, **own,
                settings=["distillation.method=mean_flow", "training.precision=float32"],
            )  # fmt: skip
    if kind == "super-resolution":
        x = run.upscale(torch.zeros(2, 1, 8, 8), steps=2)
    else:
        x = run.sample(2, steps=2)
    assert x.isfinite().all()


def test_conditions_and_paired_data_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", arr_0=images())
    np.savez("given.npz", arr_0=images(channels=1))
    rows = "\n".join(f"{n},{n / 10}" for n in range(60))
    (tmp_path / "t.csv").write_text(f"row,age\n{rows}\n")
    settings = [*PLAIN, "data.conditions=t.csv", "data.given=given.npz"]
    iddpm.train("x.npz", out="t", settings=settings, reporter=QUIET)
    measured = [*FEW[:2], "training.validate_every=2"]
    run = iddpm.distill("t", out="d", guidance=(1.0, 2.0), settings=measured, reporter=QUIET)
    given = {"given": torch.zeros(2, 1, 8, 8)}
    young, old = (run.sample(2, steps=1, conditions={"age": a}, given=given) for a in (0, 5))
    assert young.shape == old.shape == (2, 1, 8, 8)
    record = json.loads((tmp_path / "d/log.jsonl").read_text().splitlines()[-1])
    assert "frechet_2" in record
