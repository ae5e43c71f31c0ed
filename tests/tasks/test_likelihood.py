"""Likelihood of a run: what is measured, what is written, what is refused."""

import csv
import json
import math
import shutil
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

import iddpm
from iddpm.builders.run_data import open_split
from iddpm.cli.main import run as command
from iddpm.diffusion import bits_per_dim
from iddpm.evaluation.bound_terms import ItemNoise
from iddpm.evaluation.flow_likelihood import flow_likelihood, flow_of, probes_of
from iddpm.runs.step_tables import find_table
from iddpm.sampling import even_timesteps
from iddpm.tasks.likelihood import likelihood
from iddpm.tasks.likelihood_report import name_of, write_likelihood
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images

CLASSES = np.array(["cat", "dog", "owl"])


def trained(folder, name, arrays, *settings):
    np.savez(folder / f"{name}.npz", **arrays)
    iddpm.train(
        folder / f"{name}.npz",
        out=folder / name,
        settings=[*TINY, "training.steps=4", "data.held_out=0.25", *settings],
        reporter=SilentReporter(),
    )
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("measure")


@pytest.fixture(scope="module")
def labeled(folder):
    arrays = {"arr_0": images(), "arr_1": np.arange(60) % 3, "class_names": CLASSES}
    return trained(folder, "labeled", arrays, "model.class_conditional=true")


@pytest.fixture(scope="module")
def continuous(folder):
    x = images().astype(np.float32) / 127.5 - 1
    x = x * 0.9 + 0.001 * np.arange(60, dtype=np.float32).reshape(60, 1, 1, 1)
    fixed = ["diffusion.loss=simple", "diffusion.variance=fixed_small", "data.layout=NHWC"]
    return trained(folder, "continuous", {"arr_0": x}, *fixed)


def held_out(run):
    split = open_split(run.config)
    x0 = torch.from_numpy(split.source.read_many(split.held_out)).float() / 127.5 - 1
    y = torch.from_numpy(split.source.labels[split.held_out])
    return split.held_out, x0, y


def test_it_is_the_bound_of_each_held_out_item_once(labeled):
    """Against the theory's own function; 4 does not divide the number of items."""
    run = iddpm.load(labeled)
    items, x0, y = held_out(run)
    assert len(items) % 4
    result = likelihood(run, batch_size=4, seed=3)
    noise = ItemNoise(3, items.tolist(), x0.shape[1:])
    exact = bits_per_dim(
        run.denoiser.diffusion,
        run.denoiser,
        x0,
        noise=lambda number: noise(torch.full((len(x0),), 49 - number)),
        y=y,
    )
    assert result.unit == "bits/dim"
    assert result.facts["items"] == len(items)
    for part, values in (
        ("total", exact.total),
        ("prior", exact.prior),
        ("decoder", exact.vb[:, -1]),
        ("steps", exact.vb[:, :-1].sum(dim=1)),
    ):
        mean, error = getattr(result, part)
        assert mean == pytest.approx(float(values.mean()), rel=1e-5)
        assert error == pytest.approx(float(values.std()) / math.sqrt(len(items)), rel=1e-4)
    assert [row["step"] for row in result.per_step] == list(reversed(range(50)))
    means = [row["mean"] for row in result.per_step]
    assert means == pytest.approx(exact.vb.mean(dim=0).tolist(), rel=1e-4, abs=1e-9)
    total = result.prior.mean + sum(means)
    assert total == pytest.approx(result.total.mean, rel=1e-6)
    assert str(result) == f"{result.total.mean:.4f} +- {result.total.error:.4f} bits/dim"


def test_the_batch_size_changes_nothing(labeled):
    run = iddpm.load(labeled)
    for options in ({}, {"samples_per_item": 5}, {"stride": "optimal"}):
        a, b = (likelihood(run, steps=9, batch_size=size, **options) for size in (8, 100))
        assert a.total == pytest.approx(b.total, rel=1e-4)
        assert a.facts["kept"] == b.facts["kept"]


@pytest.mark.parametrize("few_steps", ["importance", "stratified"])
def test_a_few_steps_per_item_estimate_the_whole(labeled, few_steps):
    """Against the whole bound with the same noise: the mean difference is within its error."""
    run = iddpm.load(labeled)
    difference = np.array(
        [
            likelihood(run, samples_per_item=6, few_steps=few_steps, **given).total.mean
            - likelihood(run, **given).total.mean
            for given in ({"steps": 15, "seed": seed} for seed in range(8))
        ]
    )
    error = float(difference.std(ddof=1)) / math.sqrt(8)
    assert abs(difference.mean()) < 4 * error
    assert error < 0.05 * likelihood(run, steps=15).total.mean


def test_importance_has_the_smaller_error(labeled):
    run = iddpm.load(labeled)
    even, drawn = (
        likelihood(run, samples_per_item=6, few_steps=kind).steps.error
        for kind in ("stratified", "importance")
    )
    assert drawn < even


def test_optimal_steps_and_analytic_variance_come_from_one_table(labeled):
    run = iddpm.load(labeled)
    even = likelihood(run, steps=6)
    best = likelihood(run, steps=6, stride="optimal")
    assert best.facts["kept"][0] == 0
    assert best.facts["kept"][-1] == 49
    assert len(best.facts["kept"]) == 6
    assert best.total.mean < even.total.mean
    analytic = likelihood(run, steps=6, stride="optimal", variance="analytic")
    assert analytic.facts["variance"] == "analytic"
    assert len(list((labeled / "cache").glob("steps_*.safetensors"))) == 1
    table = find_table(labeled, run.denoiser)
    assert table.eps_power.shape == (50,)


def test_the_table_is_made_on_training_items(labeled, tmp_path, monkeypatch):
    """So the held-out items have no part in the choice of steps that they judge."""
    from iddpm.runs import step_tables

    seen = []
    original = step_tables.held_out_batches

    def spy(source, items, *, batch_size):
        seen.extend(items.tolist())
        return original(source, items, batch_size=batch_size)

    monkeypatch.setattr(step_tables, "held_out_batches", spy)
    copy = tmp_path / "copy"
    shutil.copytree(labeled, copy, ignore=shutil.ignore_patterns("cache"))
    run = iddpm.load(copy)
    likelihood(run, steps=6, stride="optimal", table_items=9, max_items=2)
    assert len(set(seen)) == 9
    assert set(seen) <= set(open_split(run.config).train.tolist())


def test_samplers_take_steps_and_variance_from_the_same_table(labeled, tmp_path):
    """The steps are those of the likelihood, and analytic noise makes other samples of the seed."""
    bare = tmp_path / "bare"
    shutil.copytree(labeled, bare, ignore=shutil.ignore_patterns("cache"))
    for settings in ({"spacing": "optimal"}, {"variance": "analytic"}):
        with pytest.raises(FileNotFoundError, match=r"with iddpm likelihood .*bare --stride"):
            iddpm.load(bare).plan(**settings)
    run = iddpm.load(labeled)
    likelihood(run, steps=6, stride="optimal")  # makes the table
    for variance, sampler in (("trained", "heun"), ("analytic", "ddpm")):
        plan = run.plan(steps=6, spacing="optimal", variance=variance, sampler=sampler)
        steps = 3 if sampler == "heun" else 6
        kind = None if variance == "trained" else variance
        kept = likelihood(run, steps=steps, stride="optimal", variance=kind).facts["kept"]
        assert plan.schedule.index.tolist() == kept
    assert str(plan) == "6 evaluations: ddpm, optimal, analytic variance"
    for sampler in ("ddpm", "ddim"):
        options = {"steps": 5, "sampler": sampler, "seed": 1}
        plain, analytic = (run.sample(3, variance=v, **options) for v in ("trained", "analytic"))
        assert analytic.isfinite().all()
        assert not torch.allclose(plain, analytic, atol=0.01)
        alone = run.sample(2, variance="analytic", batch_size=1, **options)
        assert torch.allclose(analytic[:2], alone, atol=1e-3)
    with pytest.raises(ValueError, match="works with ddpm or ddim, and the sampler is heun"):
        run.plan(sampler="heun", variance="analytic")
    with pytest.raises(ValueError, match="variance='free' does not work"):
        run.plan(variance="free")


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((24,), ["predicts=v", "zero_terminal_snr=true"]),
        ((24,), ["predicts=x0", "variance=learned", "self_condition=true"]),
        ((24,), ["predicts=previous", "loss=vlb", "variance=learned"]),
        ((24,), ["predicts=edm", "schedule=linear", "loss=simple", "variance=fixed_large"]),
        ((8, 6), ["predicts=eps", "loss=vlb"]),
        ((4, 6, 6), ["predicts=v"]),
    ],
)
def test_every_kind_of_model_and_dimension_is_measured(tmp_path, shape, settings):
    """All parts finite, optimal steps no worse than even ones on the items they were chosen on."""
    x = np.random.default_rng(0).normal(0, 0.3, (30, 1, *shape)).clip(-1, 1).astype(np.float32)
    layout = "data.layout=" + ["NCL", "NCHW", "NCDHW"][len(shape) - 1]
    given = [f"diffusion.{setting}" for setting in settings]
    out = trained(tmp_path, "x", {"arr_0": x}, layout, *given, "training.steps=2",
                  "diffusion.num_steps=21")  # fmt: skip
    run = iddpm.load(out)
    own = run.denoiser.diffusion.variance
    for variance in {own, "fixed_small", "analytic"}:
        for steps in (1, 2, 7, 21):
            result = likelihood(run, steps=steps, stride="optimal", variance=variance)
            parts = (result.prior, result.steps, result.decoder, result.total)
            assert all(math.isfinite(part.mean) for part in parts), (variance, steps)
    table = find_table(out, run.denoiser)
    pairs, decoders = table.pairs(own), table.decoders(own)
    costs = [
        sum(float(pairs[s, t]) for s, t in pairwise(kept)) + float(decoders[kept[1]])
        for kept in (table.optimal(own, 7), even_timesteps(21, 7))
    ]
    assert costs[0] <= costs[1]
    few = likelihood(run, steps=7, samples_per_item=3)
    assert math.isfinite(few.total.mean)
    assert run.sample(1, steps=4, variance="analytic", spacing="optimal").isfinite().all()


def test_the_continuous_bound_is_measured_and_drawn_from_without_bias(labeled, capsys):
    run = iddpm.load(labeled)
    whole = likelihood(run, method="continuous", seed=2)
    assert whole.unit == "bits/dim"
    assert len(whole.per_step) == 50
    assert whole.total.mean == pytest.approx(
        whole.prior.mean + whole.steps.mean + whole.decoder.mean
    )
    discrete = likelihood(run, seed=2)
    assert discrete.prior == whole.prior
    assert discrete.decoder.mean == pytest.approx(whole.decoder.mean)
    few = likelihood(run, method="continuous", samples_per_item=25, batch_size=4)
    assert few.total.mean == pytest.approx(whole.total.mean, abs=6 * few.total.error)
    assert name_of(few) == "held_out_continuous_importance_25"
    arguments = ["likelihood", str(labeled), "--method", "continuous", "--samples-per-item", "2"]
    assert command(arguments) == 0
    assert "continuous time" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "best"}, "method 'best' is unknown: use steps or continuous or ode"),
        ({"method": "continuous", "steps": 5}, "has no steps, and steps=5 is set: leave it"),
        ({"method": "ode", "variance": "fixed_small"}, "variance=fixed_small is set"),
        ({"method": "ode", "few_steps": "stratified"}, "few_steps=stratified is set"),
        ({"method": "ode", "steps": 0}, "at least 1 step, not 0"),
        ({"method": "ode", "samples_per_item": 0}, "samples_per_item=0 vectors for a divergence"),
        ({"method": "ode", "tolerance": 0}, "tolerance=0 must be above 0, such as 0.01"),
        ({"tolerance": 0.1}, "method=steps has no tolerance"),
        ({"steps": 0}, "cannot take 0 steps"),
        ({"method": "continuous", "stride": "optimal"}, "stride=optimal is set"),
        ({"method": "continuous", "variance": "analytic"}, "variance=analytic is set"),
    ],
)
def test_what_does_not_go_with_a_method_is_refused(labeled, options, said):
    with pytest.raises(ValueError, match=said):
        likelihood(iddpm.load(labeled), **options)


def test_the_ode_gives_each_item_a_density_and_says_that_it_is_no_bound(continuous, capsys):
    run = iddpm.load(continuous)
    with pytest.warns(UserWarning, match="method=ode is no bound"):
        whole = likelihood(run, method="ode", steps=4, max_items=3, samples_per_item=64)
    split = open_split(run.config)
    items = split.held_out[np.linspace(0, len(split.held_out) - 1, 3).round().astype(int)]
    x0 = torch.from_numpy(split.source.read_many(items)).float()
    flow = flow_of(run.denoiser.diffusion.schedule, 4)
    exact = flow_likelihood(run.denoiser, flow, x0, probes_of(x0[None], 64))
    assert whole.unit == "nats/dim"
    assert whole.total.mean == pytest.approx(float(exact.total.mean()) * math.log(2), rel=1e-4)
    assert whole.decoder.mean == 0
    assert name_of(whole) == "held_out_ode"
    arguments = [
        "likelihood",
        str(continuous),
        "--method",
        "ode",
        "--steps",
        "2",
        "--max-items",
        "2",
    ]
    assert command(arguments) == 0
    said = capsys.readouterr()
    assert "2 steps of the ODE" in said.out
    assert "nats per dimension, of the density" in said.out
    assert "warning: method=ode is no bound" in said.err


@pytest.mark.filterwarnings("ignore:method=ode is no bound")
def test_levels_are_dequantized_for_the_ode(labeled):
    run = iddpm.load(labeled)
    options = {"method": "ode", "steps": 3, "max_items": 4}
    found, again, other = (
        likelihood(run, **options, **more) for more in ({}, {"batch_size": 1}, {"seed": 1})
    )
    assert found.unit == "bits/dim"
    assert found.decoder.mean == pytest.approx(math.log2(255 / 2))
    assert again.total.mean == pytest.approx(found.total.mean, rel=1e-4)
    assert other.total.mean != found.total.mean
    finer = likelihood(run, **options, tolerance=0.5)
    assert finer.total.mean != found.total.mean
    assert finer.facts["tolerance"] == 0.5


def test_the_ode_refuses_what_it_does_not_carry(folder):
    path = trained(folder, "selfish", {"arr_0": images()}, "diffusion.self_condition=true",
                   "data.layout=NHWC")  # fmt: skip
    with pytest.raises(ValueError, match=r"conditioned on its own estimate.*: use method=steps"):
        likelihood(iddpm.load(path), method="ode")


def test_another_model_needs_another_table(labeled, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(labeled, copy)
    likelihood(iddpm.load(copy), steps=6, stride="optimal", table_items=8)
    with pytest.raises(FileNotFoundError, match=r"no table of steps.*iddpm likelihood"):
        find_table(copy, iddpm.load(copy, ema="none").denoiser)
    before = set((copy / "cache").iterdir())
    likelihood(iddpm.load(copy, ema="none"), steps=6, stride="optimal", table_items=8)
    likelihood(iddpm.load(copy), steps=6, stride="optimal", table_items=8, clip=False)
    assert len(set((copy / "cache").iterdir()) - before) == 2
    damaged = next(iter(before))
    damaged.write_bytes(b"short")
    likelihood(iddpm.load(copy), steps=6, stride="optimal", table_items=8)  # measured again
    find_table(copy, iddpm.load(copy).denoiser)


def test_continuous_data_are_measured_in_nats_of_a_density(continuous, capsys):
    run = iddpm.load(continuous)
    result = likelihood(run)
    assert result.unit == "nats/dim"
    split = open_split(run.config)
    x0 = torch.from_numpy(split.source.read_many(split.held_out)).float()
    noise = ItemNoise(0, split.held_out.tolist(), x0.shape[1:])
    exact = bits_per_dim(
        run.denoiser.diffusion,
        run.denoiser,
        x0,
        noise=lambda number: noise(torch.full((len(x0),), 49 - number)),
        bits=None,
    )
    assert result.total.mean == pytest.approx(float(exact.total.mean()) * math.log(2), rel=1e-5)
    assert command(["likelihood", str(continuous)]) == 0
    printed = capsys.readouterr().out
    assert "nats/dim" in printed
    assert "continuous data: nats per dimension, a bound on the density" in printed
    with pytest.raises(ValueError, match="between the levels of 8 bits"):
        likelihood(run, bits=8)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_depth_of_levels_stored_as_floats_can_be_stated(continuous, tmp_path, bits):
    """All parts but the decoder are those of the continuous bound."""
    top = 2**bits - 1
    levels = np.random.default_rng(0).integers(0, top + 1, (5, 8, 8, 1))
    np.savez(tmp_path / "x.npz", arr_0=(levels / top * 2 - 1).astype(np.float32))
    run = iddpm.load(continuous)
    stated = likelihood(run, tmp_path / "x.npz", bits=bits)
    density = likelihood(run, tmp_path / "x.npz")
    assert stated.unit == "bits/dim"
    assert stated.facts["bits"] == bits
    ratio = math.log(2)
    assert stated.prior.mean * ratio == pytest.approx(density.prior.mean, rel=1e-9)
    assert stated.steps.mean * ratio == pytest.approx(density.steps.mean, rel=1e-9)
    bin_width = math.log(2 / top)
    if bits == 16:  # so fine that a bin's probability is density times width
        inner = stated.decoder.mean * ratio + bin_width
        assert inner == pytest.approx(density.decoder.mean, rel=1e-3)


def test_what_is_written(labeled, tmp_path, capsys):
    run = iddpm.load(labeled)
    result = likelihood(run, steps=5)
    written = write_likelihood(result, tmp_path, name_of(result))
    assert [path.name for path in written] == [
        f"held_out_5_even_learned_range.{kind}" for kind in ("json", "csv", "png")
    ]
    report = json.loads(written[0].read_text())
    assert report["total"]["mean"] == result.total.mean
    assert report["facts"]["kept"] == [0, 12, 24, 37, 49]
    assert report["facts"]["weights"]
    rows = list(csv.DictReader(written[1].open()))
    assert [int(row["step"]) for row in rows] == [49, 37, 24, 12, 0]
    assert float(rows[-1]["mean"]) == pytest.approx(result.decoder.mean)
    printed = capsys.readouterr().out
    assert all(f"wrote {path}" in printed for path in written)
    alone = write_likelihood(likelihood(run, steps=5, max_items=1), tmp_path, "alone")
    assert json.loads(alone[0].read_text())["total"]["error"] is None


def test_without_matplotlib_there_is_no_picture(labeled, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status = command(["likelihood", str(labeled), "--steps", "3", "--out", str(tmp_path)])
    assert status == 0
    assert "need matplotlib: pip install" in capsys.readouterr().out
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".json"]


def test_the_command_ends_with_one_line(labeled, capsys):
    status = command(
        ["likelihood", str(labeled), "--samples-per-item", "4", "--max-items", "7",
         "--variance", "fixed_large", "--ema", "none"]
    )  # fmt: skip
    assert status == 0
    lines = capsys.readouterr().out.strip().splitlines()
    name = "held_out_50_even_fixed_large_importance_4_ema_none"
    assert f"wrote {labeled / 'likelihood' / name}.json" in lines
    assert " +- " in lines[-1]
    assert "bits/dim (7 items, 50 of 50 steps" in lines[-1]


def test_other_data_are_read_as_the_runs_own(labeled, tmp_path):
    run = iddpm.load(labeled)
    split = open_split(run.config)
    x = split.source.read_many(split.held_out).transpose(0, 2, 3, 1)
    y = split.source.labels[split.held_out]
    np.savez(tmp_path / "other.npz", arr_0=x, arr_1=y, class_names=CLASSES)
    a = likelihood(run, tmp_path / "other.npz", steps=5)
    b = likelihood(run, steps=5)
    assert a.facts["items"] == b.facts["items"]
    assert a.prior.mean == pytest.approx(b.prior.mean, rel=1e-6)
    assert a.total.mean == pytest.approx(b.total.mean, rel=0.1)  # other numbers, other noise


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 51}, "cannot take 51 steps of a process of 50"),
        ({"method": "ode", "tolerance": 0}, "tolerance=0 must be above 0, such as 0.01"),
        ({"tolerance": 0.1}, "method=steps has no tolerance"),
        ({"steps": 0}, "cannot take 0 steps"),
        ({"stride": "odd"}, "stride 'odd' is unknown: use even or optimal"),
        ({"variance": "free"}, "variance 'free' is unknown: use learned, analytic"),
        ({"few_steps": "random"}, "few_steps 'random' is unknown"),
        ({"samples_per_item": 1}, "samples_per_item=1 does not fit.*use 2 to 50"),
        ({"samples_per_item": 51}, "samples_per_item=51 does not fit"),
        ({"bits": 12}, "bits=12 is set, and the data of .* has 8 bits"),
        ({"max_items": 0}, "max_items=0 must be 1 or more"),
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"table_items": 0, "stride": "optimal", "steps": 4}, "at least one item"),
        ({"precision": "fp8"}, "precision 'fp8' is unknown"),
    ],
)
def test_bad_requests_are_refused_in_a_sentence(labeled, options, message):
    with pytest.raises(ValueError, match=message):
        likelihood(iddpm.load(labeled), **options)


def test_bad_data_are_refused_in_a_sentence(labeled, continuous, folder, tmp_path):
    run = iddpm.load(labeled)
    np.savez(tmp_path / "large.npz", arr_0=images(size=9), arr_1=np.arange(60) % 3)
    with pytest.raises(ValueError, match=r"items of shape \(1, 9, 9\)"):
        likelihood(run, tmp_path / "large.npz")
    np.savez(tmp_path / "plain.npz", arr_0=images())
    with pytest.raises(ValueError, match=r"has no labels, and .* is a class-conditional model"):
        likelihood(run, tmp_path / "plain.npz")
    names = np.array(["cat", "dog", "hen"])
    np.savez(tmp_path / "hens.npz", arr_0=images(), arr_1=np.arange(60) % 3, class_names=names)
    with pytest.raises(ValueError, match=r"classes cat, dog, hen, and .* cat, dog, owl"):
        likelihood(run, tmp_path / "hens.npz")
    with pytest.raises(ValueError, match="variance=fixed_small and has no learned variance"):
        likelihood(iddpm.load(continuous), variance="learned")
    data = run.config.data.model_copy(update={"held_out": 0.0})
    run.config = run.config.model_copy(update={"data": data})
    with pytest.raises(ValueError, match=r"has no held-out items.*name data to measure"):
        likelihood(run)


def test_bad_requests_of_the_command_write_nothing(labeled, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(["likelihood", str(labeled), "--steps", "99", "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("error: cannot take 99 steps")
    assert not out.exists()
