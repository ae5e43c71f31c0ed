"""The benchmarks of samplers and of distillation in small: from end to end, and when repeated."""

import numpy as np
import pytest
import yaml

from benchmarks import distillation, four_networks, samplers
from benchmarks.four_networks import Network, Row, ratio, verdict
from iddpm.builders.sampling_plan import Method
from iddpm.runs.run import Run
from tests.conftest import images

EXAMPLE = {
    "model": {"model_channels": 8, "num_res_blocks": 1, "channel_mult": [1]},
    "diffusion": {"predicts": "v", "num_steps": 50},
    "training": {"steps": 2, "batch_size": 8, "preview_every": 0, "precision": "float32"},
    "sampling": {"steps": 5},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    np.savez(folder / "x.npz", arr_0=images(160))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(EXAMPLE))
    return folder


@pytest.fixture(autouse=True)
def tiny(world, monkeypatch):
    """One network in the place of four, and two methods in that of eleven."""
    made = Network(
        lambda: world / "x.npz", str(world / "tiny.yaml"), samples=100, ancestral=6, part=50
    )
    monkeypatch.setitem(four_networks.NETWORKS, "tiny", made)
    methods = (Method("ddim", "even"), Method("unipc_2", "log_snr"))
    monkeypatch.setattr(samplers, "METHODS", methods)
    monkeypatch.setattr(samplers, "exact_tables", lambda: "EXACT")
    monkeypatch.chdir(world)


def refuse(*_, **__):
    raise AssertionError("this was drawn before")


@pytest.mark.slow  # a grid of samplers
def test_the_samplers_are_compared_and_nothing_is_drawn_again(world, monkeypatch, capsys):
    words = ["--networks", "tiny", "--folder", "runs", "--evaluations", "5,10"]
    samplers.main(words)
    report = (world / "runs/benchmarks/samplers.md").read_text()
    lines = [line for line in report.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + 1 + 2 * 3  # head, ancestral, the automatic choice and two others
    assert "| 10 | dpmpp_2m_sde, karras (automatic) |" in report
    assert "automatic choice at 5, of the best: x" in report
    assert "best at 10, of ancestral: x" in report
    assert "within 5 % on" in report
    assert report.endswith("EXACT")
    monkeypatch.setattr(Run, "sample_batches", refuse)
    samplers.main(words)
    assert (world / "runs/benchmarks/samplers.md").read_text() == report
    assert "## tiny: 100 samples" in capsys.readouterr().out


@pytest.mark.slow  # three trainings
def test_distilled_runs_are_compared_and_pictured(world, monkeypatch, capsys):
    few = ["-s", "training.steps=2", "-s", "training.validate_every=2", "--networks", "tiny"]
    distillation.main([*few, "--methods", "consistency_tuning,mid_training"])
    report = (world / "runs/benchmarks/distillation.md").read_text()
    for name in ("teacher, ddpm 6", "teacher, 1", "consistency_tuning, 4", "mid_training, 2"):
        assert f"| {name} |" in report
    assert report.count("goal 1.05") == report.count("goal 1.25") == 2
    assert "training took" in report
    distillation.main([*few, "--picture", "few.png"])
    assert (world / "few.png").stat().st_size > 0
    said = capsys.readouterr().out
    assert all(f" at {n}" in said for n in (1, 2, 4, 10, 50))
    monkeypatch.setattr(Run, "sample_batches", refuse)
    distillation.main([*few, "--methods", "consistency_tuning,mid_training"])
    assert (world / "runs/benchmarks/distillation.md").read_text() == report


def test_a_goal_is_judged_by_the_value_and_by_the_interval():
    def row(distance, error):
        return Row(distance, error, 1, 1, 1, 1)

    found = ratio(row(1.2, 0.12), row(1.0, 0.0))
    assert found.value == pytest.approx(1.2)
    assert (found.low, found.high) == pytest.approx((1.2 - 1.96 * 0.12, 1.2 + 1.96 * 0.12))
    assert verdict("a", found, 1.25).endswith("reached")
    assert verdict("a", found, 1.05).endswith("missed by 14%, though the interval contains it")
    assert verdict("a", found, 0.9).endswith("missed by 33%")


@pytest.mark.parametrize(
    ("main", "words", "said"),
    [
        (samplers.main, ["--networks", "digits,nothing"], "no network 'nothing': use digits, "),
        (distillation.main, ["--networks", "nothing"], "no network 'nothing': use digits, "),
        (distillation.main, ["--methods", "nothing"], "no method 'nothing': use "),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_trained(main, words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
