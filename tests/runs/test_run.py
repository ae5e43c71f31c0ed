"""A trained run, opened again."""

import shutil

import numpy as np
import pytest
import torch

import iddpm
from iddpm.training.monitoring.terminal import SilentReporter


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    from tests.conftest import TINY, images

    folder = tmp_path_factory.mktemp("run")
    np.savez(
        folder / "x.npz",
        arr_0=images(),
        arr_1=np.arange(60) % 3,
        class_names=np.array(["cat", "dog", "owl"]),
    )
    iddpm.train(
        folder / "x.npz",
        out=folder / "run",
        settings=[
            *TINY,
            "training.steps=6",
            "training.save_every=3",
            "training.ema_rates=[0.9,0.5]",
            "training.ema_warmup=false",
            "model.class_conditional=true",
        ],
        reporter=SilentReporter(),
    )
    return folder / "run"


def test_three_lines_do_what_the_readme_says(run_directory, tmp_path):
    run = iddpm.load(run_directory)
    x = run.sample(16, steps=5, seed=0)
    path = iddpm.save_grid(x, tmp_path / "grid.png")
    assert x.shape == (16, 1, 8, 8)
    assert x.isfinite().all()
    assert path.is_file()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "heun", "ipndm", "dpmpp_2m_sde", "unipc_3"])
def test_a_sample_depends_on_its_seed_and_number_alone(run_directory, sampler):
    run = iddpm.load(run_directory)
    options = {"steps": 5, "sampler": sampler, "seed": 3}
    all_at_once = run.sample(7, batch_size=7, **options)
    in_parts = run.sample(7, batch_size=2, **options)
    fewer = run.sample(3, batch_size=64, **options)
    assert float((all_at_once - in_parts).abs().max()) < 1e-3
    assert float((all_at_once[:3] - fewer).abs().max()) < 1e-3
    levels = [((x + 1) * 127.5).round() for x in (all_at_once, in_parts)]
    assert float((levels[0] - levels[1]).abs().max()) <= 1
    assert not torch.allclose(all_at_once, run.sample(7, **options | {"seed": 4}), atol=0.1)


def test_classes_by_name_number_and_seed(run_directory):
    run = iddpm.load(run_directory)
    assert run.classes.labels(3, 0, "owl").tolist() == [2, 2, 2]
    assert run.classes.labels(3, 0, 1).tolist() == [1, 1, 1]
    assert run.classes.labels(2, 0, ["dog", 0]).tolist() == [1, 0]
    drawn = run.classes.labels(50, 0)
    assert set(drawn.tolist()) == {0, 1, 2}
    assert torch.equal(run.classes.labels(10, 0), drawn[:10])
    assert run.classes.labels(2, 0, -1).tolist() == [-1, -1]  # no class
    for wrong in ("bird", 3, -2, "7"):
        with pytest.raises(ValueError, match=r"not one of the 3 classes.*cat, dog, owl"):
            run.classes.labels(1, 0, wrong)
    with pytest.raises(ValueError, match="2 classes were given for 3"):
        run.classes.labels(3, 0, [0, 1])


def test_averages_and_checkpoints_can_be_chosen(run_directory):
    def weight(**options):
        return next(iter(iddpm.load(run_directory, **options).denoiser.parameters())).clone()

    first, second, live = weight(), weight(ema="0.5"), weight(ema="none")
    assert torch.equal(first, weight(ema=0.9))
    assert not torch.equal(first, second)
    assert not torch.equal(first, live)
    assert not torch.equal(live, weight(ema="none", checkpoint=3))
    with pytest.raises(FileNotFoundError, match=r"no average of rate 0\.7.*0\.9, 0\.5 or none"):
        iddpm.load(run_directory, ema=0.7)
    with pytest.raises(ValueError, match="'fast' is not a rate"):
        iddpm.load(run_directory, ema="fast")
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 4; it has 3, 6"):
        iddpm.load(run_directory, checkpoint=4)


def test_the_best_checkpoint_and_other_lengths_are_refused_where_there_are_none(run_directory):
    with pytest.raises(FileNotFoundError, match=r"no best checkpoint.*validate_every"):
        iddpm.load(run_directory, checkpoint="best")
    with pytest.raises(ValueError, match="'worst' is not a step: use a number, or best"):
        iddpm.load(run_directory, checkpoint="worst")
    with pytest.raises(FileNotFoundError, match=r"no snapshots.*posthoc_ema=true"):
        iddpm.load(run_directory, ema_length=0.07)
    with pytest.raises(ValueError, match=r"ema_length=0\.07 .* checkpoint=3 selects other weights"):
        iddpm.load(run_directory, ema_length=0.07, checkpoint=3)


def test_released_weights_alone_are_enough(run_directory, tmp_path):
    for name in ("config.yaml", "model.safetensors"):
        shutil.copy(run_directory / name, tmp_path / name)
    a, b = iddpm.load(run_directory).sample(2, steps=3), iddpm.load(tmp_path).sample(2, steps=3)
    assert torch.equal(a, b)


def test_wrong_requests_are_refused_before_anything_is_drawn(run_directory):
    run = iddpm.load(run_directory)
    for options, message in (
        ({"steps": 51}, "cannot take 51 steps of a process of 50"),
        ({"steps": 0}, "sampling.steps=0 does not work"),
        ({"n": 0}, "cannot draw 0 samples"),
        ({"sampler": "euler"}, "sampling.sampler='euler' does not work.*'ddim'"),
        ({"sampler": "ddpm", "eta": 0.5}, "option of sampler ddim"),
        ({"spacing": "odd"}, "spacing 'odd' is unknown"),
        ({"spacing": "10,15"}, "has 25 steps, and steps=5 .* use steps=25"),
        ({"spacing": "ddim7", "sampler": "heun"}, "has 7 steps, and steps=5 .* use steps=13"),
        ({"spacing": "10,ddim"}, "spacing '10,ddim' is unknown"),
        ({"eta": 2.0}, "sampling.eta=2.0 does not work"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"sampling_steps": 5}, "unknown setting 'sampling.sampling_steps'"),
    ):
        with pytest.raises(ValueError, match=message):
            run.sample(**{"n": 2, **options})


def test_what_is_not_a_run_is_named(run_directory, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run directory"):
        iddpm.load(tmp_path / "none")
    with pytest.raises(ValueError, match="is not a run directory"):
        iddpm.load(tmp_path)
    optimizer = run_directory / "checkpoints/step_00000006/optimizer.safetensors"
    with pytest.raises(ValueError, match="is a file: give the run directory"):
        iddpm.load(optimizer)


@pytest.mark.parametrize("kind", ["truncated", "optimizer", "pickle", "other model"])
def test_weights_that_are_not_this_models(run_directory, tmp_path, kind):
    shutil.copy(run_directory / "config.yaml", tmp_path / "config.yaml")
    target = tmp_path / "model.safetensors"
    weights = run_directory / "model.safetensors"
    if kind == "truncated":
        target.write_bytes(weights.read_bytes()[:-10])
        message = "damaged, truncated, or of another kind"
    elif kind == "optimizer":
        shutil.copy(run_directory / "checkpoints/step_00000006/optimizer.safetensors", target)
        message = "does not hold the weights of this network"
    elif kind == "pickle":
        torch.save({}, target)
        message = "not a complete safetensors file"
    else:
        shutil.copy(weights, target)
        text = (tmp_path / "config.yaml").read_text()
        (tmp_path / "config.yaml").write_text(
            text.replace("model_channels: 8", "model_channels: 16")
        )
        message = "weights were trained with model.model_channels=8"
    with pytest.raises(ValueError, match=message):
        iddpm.load(tmp_path)


def test_guidance_changes_the_samples_and_needs_dropped_labels(run_directory):
    run = iddpm.load(run_directory)
    as_trained = run.sample(3, steps=4, classes=1)
    assert torch.equal(as_trained, run.sample(3, steps=4, classes=1, guidance=1.0))
    assert not torch.equal(as_trained, run.sample(3, steps=4, classes=1, guidance=3.0))
    training = run.config.training.model_copy(update={"label_dropout": 0.0})
    run.config = run.config.model_copy(update={"training": training})
    with pytest.raises(ValueError, match="label_dropout above 0"):
        run.sample(1, guidance=2.0)


@pytest.mark.parametrize(("sampler", "taken"), [("heun", 3), ("unipc_3", 5), ("ddim", 5)])
def test_steps_count_network_evaluations(run_directory, sampler, taken):
    run = iddpm.load(run_directory)
    evaluations, steps = [], []
    run.denoiser.network.register_forward_hook(lambda *_: evaluations.append(1))
    plan = run.plan(sampler=sampler, steps=5)
    for _ in run.sample_batches(1, plan, on_step=lambda number, _: steps.append(number)):
        pass
    assert len(evaluations) == 5
    assert steps[-1] == taken  # Heun's method: 2 + 2 + 1 evaluations


def test_batches_are_shared_out_whole(run_directory):
    run = iddpm.load(run_directory)
    plan = run.plan(steps=2, batch_size=3)
    with pytest.warns(DeprecationWarning, match=r"Run\.plan"):
        assert str(run.walk(steps=2)) == str(plan)
    whole = list(run.sample_batches(8, plan, start=2))
    for turns in (slice(0, None, 2), slice(1, None, 2), slice(3, None, 4)):
        mine = list(run.sample_batches(8, plan, start=2, turns=turns))
        assert [batch.start for batch in mine] == [batch.start for batch in whole[turns]]
        assert all(torch.equal(a.x, b.x) for a, b in zip(mine, whole[turns], strict=True))


def test_an_unconditional_run_has_no_classes(tmp_path, array_file, tiny):
    run = iddpm.train(
        array_file, out=tmp_path / "r", settings=[*tiny, "training.steps=1"],
        reporter=SilentReporter(),
    )  # fmt: skip
    with pytest.raises(ValueError, match="trained without classes"):
        run.sample(1, classes=0)
    with pytest.raises(ValueError, match="needs a model with a class or conditions"):
        run.sample(1, guidance=2.0)


def test_public_names_are_there():
    for name in iddpm.__all__:
        assert getattr(iddpm, name) is not None
    samplers = {"DDPM", "DDIM", "Heun", "IPNDM", "DPMSolverPP", "UniPC"}
    metrics = {"evaluate", "frechet_distance", "kernel_distance", "manifold", "psnr"}
    losses = {"losses", "simple", "vlb", "hybrid"}
    assert samplers | metrics | losses <= set(iddpm.__all__)
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = iddpm.nothing_like_this


class _Conditioned(torch.nn.Module):
    """Records the conditioning of the network and adds it to the input."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.seen = []

    def forward(self, x, shown, y, low_res):
        self.seen.append(low_res.clone())
        return self.network(x + low_res.mean(), shown, y)


def test_what_is_given_reaches_the_samples_rows(run_directory):
    run = iddpm.load(run_directory)
    conditioned = run.denoiser.network = _Conditioned(run.denoiser.network)
    low_res = torch.arange(7.0).reshape(7, 1, 1, 1)
    plan = run.plan(steps=1, batch_size=3)
    whole = list(run.sample_batches(7, plan, start=2, given={"low_res": low_res}))
    assert [rows.flatten().tolist() for rows in conditioned.seen] == [[0, 1, 2], [3, 4, 5], [6]]
    conditioned.seen.clear()
    turns = slice(1, None, 2)
    (own,) = run.sample_batches(7, plan, start=2, turns=turns, given={"low_res": low_res})
    assert [rows.flatten().tolist() for rows in conditioned.seen] == [[3, 4, 5]]
    assert torch.equal(own.x, whole[1].x)
    assert not torch.equal(
        run.sample(2, given={"low_res": low_res[:2]}),
        run.sample(2, given={"low_res": low_res[2:4]}),
    )
    conditioned.seen.clear()
    run.sample(2, steps=1, guidance=2.0, given={"low_res": low_res[5:7]})
    assert [rows.flatten().tolist() for rows in conditioned.seen] == [[5, 6, 5, 6]]
    with pytest.raises(ValueError, match="low_res has 7 rows for 2 samples: give one for each"):
        run.sample(2, given={"low_res": low_res})
