"""Runs guided by other models: what is accepted, what is refused, and that it changes samples."""

import numpy as np
import pytest
import torch

import iddpm
from iddpm.builders.guides import Guides, guide
from iddpm.cli.main import run as command
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images


def make(folder, name, *settings, size=8, classes=3, steps=4):
    data = folder / f"{size}_{classes}.npz"
    np.savez(data, arr_0=images(size=size), arr_1=np.arange(60) % classes)
    iddpm.train(
        data,
        out=folder / name,
        settings=[*TINY, f"training.steps={steps}", "training.save_every=2",
                  "training.ema_warmup=false", "training.ema_rates=[0.5]", *settings],
        reporter=SilentReporter(),
    )  # fmt: skip
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guides")
    make(folder, "plain")
    make(folder, "classes", "model.class_conditional=true")
    make(folder, "v", "diffusion.predicts=v", "diffusion.schedule=linear",
         "diffusion.num_steps=40")  # fmt: skip
    make(folder, "large", size=16)
    make(folder, "classifier", "task=classification", steps=30)
    make(folder, "few", "task=classification", classes=2)
    make(folder, "large_classifier", "task=classification", size=16)
    return folder


def draw(folder, name="plain", n=3, **options):
    return iddpm.load(folder / name).sample(n, steps=5, **options)


def test_a_classifier_guides_a_model_without_classes(folder):
    plain = draw(folder)
    guide = folder / "classifier"
    still = draw(folder, classifier=guide, classifier_scale=0.0, classes=1)
    assert torch.allclose(still, plain, atol=1e-6)
    moved = draw(folder, classifier=guide, classifier_scale=50.0, classes=1)
    assert not torch.allclose(moved, plain, atol=1e-3)
    other = draw(folder, classifier=guide, classifier_scale=50.0, classes=["0", "2", 0])
    assert not torch.allclose(moved, other, atol=1e-3)
    drawn = draw(folder, classifier=guide, classifier_scale=50.0)
    assert drawn.isfinite().all()
    # Each sample follows its own class, whatever the batch.
    parts = draw(folder, classifier=guide, classifier_scale=50.0, batch_size=2)
    assert torch.allclose(drawn, parts, atol=1e-4)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "heun", "ipndm", "dpmpp_2m_sde", "unipc_3"])
def test_all_guides_at_once_with_every_sampler(folder, sampler):
    x = draw(
        folder,
        "classes",
        sampler=sampler,
        classes=2,
        guidance=2.0,
        guidance_interval=(0.1, 20),
        classifier=folder / "classifier",
        autoguidance=2,
        threshold=0.9,
    )
    assert x.isfinite().all()
    assert not torch.equal(x, draw(folder, "classes", sampler=sampler, classes=2))


def test_the_published_form_is_ddpms(folder):
    options = {"classifier": folder / "classifier", "classifier_scale": 30.0, "classes": 0}
    a, b = (
        draw(folder, sampler="ddpm", classifier_form=form, **options) for form in ("score", "mean")
    )
    assert not torch.equal(a, b)
    with pytest.raises(ValueError, match="the sampler is ipndm: use sampler=ddpm"):
        draw(folder, sampler="ipndm", classifier_form="mean", **options)


@pytest.mark.parametrize("step", [3, 20, 35])
def test_the_published_order_clips_and_then_guides(folder, step):
    """The arithmetic of guided-diffusion: p_mean_variance clips, condition_score comes after."""
    run = iddpm.load(folder / "v")

    def gradient(x_t, level, y):
        return torch.cos(3 * x_t) * (1 + y)[:, None, None, None]

    def guided(form):
        guides = Guides(gradient=gradient, classifier_scale=2.0, classifier_form=form)
        return guide(run.config, run.denoiser, run.config.sampling, guides)

    x_t = 3 * torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 1])
    level = run.denoiser.diffusion.schedule.at(torch.full((4,), step))
    a = float(level.alpha_bar[0])
    x0 = run.denoiser(x_t, level).x0.clamp(-1, 1)
    eps = (x_t / a**0.5 - x0) / (1 / a - 1) ** 0.5
    eps = eps - (1 - a) ** 0.5 * 2.0 * gradient(x_t, level, y)
    x0 = x_t / a**0.5 - (1 / a - 1) ** 0.5 * eps
    ours = guided("clip_then_score")(x_t, level, y=y)
    torch.testing.assert_close(ours.x0, x0, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.eps, eps, rtol=1e-4, atol=1e-4)
    assert ours.x0.abs().max() > 1.2  # not clipped again
    assert guided("score")(x_t, level, y=y).x0.abs().max() <= 1 + 1e-6


def test_an_earlier_checkpoint_or_another_run_is_the_weaker_model(folder):
    plain = draw(folder)
    assert torch.equal(draw(folder, autoguidance=2, autoguidance_scale=1.0), plain)
    assert torch.allclose(draw(folder, autoguidance=4), plain, atol=1e-5)  # the same checkpoint
    by_step, by_text = (draw(folder, autoguidance=which) for which in (2, "2"))
    assert torch.equal(by_step, by_text)
    assert not torch.equal(by_step, plain)
    by_run = draw(folder, autoguidance=folder / "v")
    assert not torch.equal(by_run, plain)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("plain", {"classifier": "large_classifier"}, r"shape \(1, 16, 16\) and the model on"),
        ("classes", {"classifier": "few"}, r"has 2 classes \(0, 1\) and the model has 3 classes"),
        ("plain", {"classifier": "classes"}, "holds a model for generation"),
        ("plain", {"classifier": "nowhere"}, "no run directory"),
        ("plain", {"classifier": "classifier", "classes": 3}, "not one of the 3 classes"),
        ("plain", {"classifier": "few", "classifier_form": "both"}, "classifier_form=both"),
        ("plain", {"autoguidance": "large"}, r"shape \(1, 16, 16\) and the model on"),
        ("plain", {"autoguidance": "classes"}, "has 3 classes .* and the model no classes"),
        ("plain", {"autoguidance": "classifier"}, "holds a classifier"),
        ("plain", {"autoguidance": 3}, "no checkpoint of step 3; it has 2, 4"),
        ("plain", {"classes": 1}, "trained without classes"),
        ("classes", {"guidance_interval": (3, 1)}, "guidance_interval=3, 1 is empty"),
        ("classes", {"guidance_rescale": 0.7}, "guidance_rescale=0.7 changes classifier-free"),
        ("classes", {"guidance_interval": (-1, 1)}, "sampling.guidance_interval"),
        ("plain", {"threshold": 1.5}, "sampling.threshold=1.5"),
    ],
)
def test_what_does_not_fit_is_refused(folder, name, options, message):
    for key in ("classifier", "autoguidance"):
        if isinstance(options.get(key), str):
            options = {**options, key: folder / options[key]}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        draw(folder, name, **options)


def test_the_command_takes_them(folder, tmp_path, capsys):
    status = command(
        ["sample", str(folder / "classes"), "-n", "2", "--steps", "3", "--out", str(tmp_path),
         "--guidance", "2", "--guidance-interval", "0.2,5", "--threshold", "0.995",
         "--classifier", str(folder / "classifier"), "--classifier-scale", "2",
         "--classifier-form", "clip_then_score",
         "--autoguidance", "2", "--autoguidance-scale", "1.5"]
    )  # fmt: skip
    assert status == 0
    assert f"wrote {tmp_path / 'grid.png'}" in capsys.readouterr().out
    status = command(["sample", str(folder / "classes"), "--guidance-interval", "5,0.2"])
    assert status == 2
    assert "guidance_interval=5, 0.2 is empty" in capsys.readouterr().err
