"""The choice between float32 and bfloat16 on a CPU, with a clock that is made up."""

import json

import pytest
import torch

from iddpm.builders import measured_precision as measured
from iddpm.builders import resolve
from iddpm.builders.measured_precision import choose_precision
from iddpm.config import read_config
from tests.conftest import TINY

CPU = torch.device("cpu")


class Clock:
    """Times of calls in turn: bfloat16 takes ``share`` of float32's; every seventh is disturbed.

    ``each`` is the seconds of float32, and ``noise(n)`` what call n takes more.
    """

    def __init__(self, share, fail=False, each=1e-3, noise=lambda n: 5 * (n % 7 == 0)):
        self.share, self.fail, self.calls = share, fail, 0
        self.each, self.noise = each, noise

    def __call__(self, call):
        self.calls += 1
        if self.fail:
            raise RuntimeError("could not create a primitive")
        if self.calls <= 6:
            call()  # it is work that can be done
            return 0.02  # kernels are made ready
        bf16 = self.calls % 2 == 0
        return (self.share if bf16 else 1.0) * self.each * (1 + self.noise(self.calls))


@pytest.fixture(autouse=True)
def able(monkeypatch, tmp_path):
    monkeypatch.setattr(measured, "computes_bfloat16", lambda: True)
    monkeypatch.setenv("IDDPM_CACHE", str(tmp_path / "cache"))


def config(*settings, size="[16,16]"):
    plain = [*TINY, "training.precision=auto", "model.channels=1", f"model.size={size}"]
    return resolve(read_config(None, [*plain, *settings]))


@pytest.mark.parametrize(
    ("share", "name"), [(0.3, "bf16"), (0.85, "bf16"), (0.95, "float32"), (2.0, "float32")]
)
@pytest.mark.parametrize("size", ["[64]", "[16,16]", "[4,8,8]"])
def test_the_faster_one_is_taken_by_a_margin(share, name, size):
    chosen = choose_precision(config(size=size), CPU, timer=Clock(share))
    assert chosen.name == name
    assert f"take {share:.2f} times as long in bf16" in chosen.why


def test_it_is_measured_once_for_the_same_network_and_machine(monkeypatch):
    clock = Clock(0.3)
    first = choose_precision(config(), CPU, timer=clock)
    calls = clock.calls
    assert calls > 0
    assert choose_precision(config("training.seed=3"), CPU, timer=Clock(9.0)) == first
    for change in (
        lambda: config("model.model_channels=16"),
        lambda: monkeypatch.setattr(torch, "get_num_threads", lambda: 77) or config(),
        lambda: monkeypatch.setattr(measured, "processor_name", lambda: "another") or config(),
        lambda: monkeypatch.setattr(torch, "__version__", "9.9") or config(),
        lambda: monkeypatch.setenv("ATEN_CPU_CAPABILITY", "another") or config(),
    ):
        again = Clock(0.3)
        choose_precision(change(), CPU, timer=again)
        assert again.calls > 0


def test_what_is_kept_can_be_listed(monkeypatch, tmp_path):
    assert measured.kept_shares() == []
    choose_precision(config(), CPU, timer=Clock(0.3))
    assert measured.kept_shares() == [pytest.approx(0.3)]
    for bad in ("{", "[1]", '{"facts": {}, "share": 0.5}'):
        (tmp_path / "cache/precision/other.json").write_text(bad)
        assert len(measured.kept_shares()) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert measured.kept_shares() == []


@pytest.mark.parametrize(
    "kept",
    ["", "{", "[1]", "null", '{"share": 0.1}', "share-text", "share-nan", "share-negative"],
)
def test_a_broken_cache_is_measured_again(tmp_path, kept):
    choose_precision(config(), CPU, timer=Clock(0.3))
    (path,) = (tmp_path / "cache/precision").iterdir()
    whole = json.loads(path.read_text())
    bad = {"share-text": "0.3", "share-nan": float("nan"), "share-negative": -1.0}
    path.write_text(json.dumps({**whole, "share": bad[kept]}) if kept in bad else kept)
    clock = Clock(2.0)
    assert choose_precision(config(), CPU, timer=clock).name == "float32"
    assert clock.calls > 0


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert choose_precision(config(), CPU, timer=Clock(0.3)).name == "bf16"


def test_a_kernel_that_is_not_there_means_float32():
    assert choose_precision(config(), CPU, timer=Clock(0.3, fail=True)).name == "float32"


def test_what_is_stated_and_what_a_run_had_is_not_measured(monkeypatch):
    def never(call):
        raise AssertionError("nothing to measure")

    for name in ("float32", "bf16", "fp16"):
        assert choose_precision(config(f"training.precision={name}"), CPU, timer=never).name == name
    for amx, name in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx, raising=False)
        assert choose_precision(config(), CPU, as_before=True, timer=never).name == name
    monkeypatch.setattr(measured, "computes_bfloat16", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert choose_precision(config(), CPU, timer=never).name == "float32"


@pytest.mark.parametrize(
    "busy",
    [
        {"each": 0.02, "noise": lambda n: 0},
        {"noise": lambda n: 3.0**n % 7},
        {"noise": lambda n: 2.0 * n},
    ],
)
def test_a_busy_machine_means_float32_until_it_can_be_measured(busy, tmp_path):
    """Calls take too long for three rounds, or no two rounds agree: nothing is kept."""
    clock = Clock(0.3, **busy)
    chosen = choose_precision(config(), CPU, timer=clock)
    assert (chosen.name, "too busy" in chosen.why) == ("float32", True)
    assert not (tmp_path / "cache").exists()
    assert choose_precision(config(), CPU, timer=Clock(0.3)).name == "bf16"


def test_no_call_begins_after_the_time_is_up():
    clock = Clock(1.0, each=0.05, noise=lambda n: 0)
    choose_precision(config(), CPU, timer=clock)
    assert clock.calls == 6 + 4  # 0.12 seconds for the first six, then 0.20 more


def test_a_kept_choice_builds_no_network(monkeypatch):
    choose_precision(config(), CPU, timer=Clock(0.3))
    monkeypatch.setattr(measured, "on_meta_device", None)
    assert choose_precision(config(), CPU, timer=None).name == "bf16"


def test_layers_that_hand_their_weight_to_a_convolution_are_timed_too():
    settings = config("model.layers=magnitude_preserving")
    found = measured._convolutions(settings)
    assert found
    assert all(each.shape[1] == each.layer.in_channels for each in found)
    assert choose_precision(settings, CPU, timer=Clock(0.3)).name == "bf16"


@pytest.mark.parametrize("settings", [(), ("task=classification", "class_names=[a,b]")])
def test_the_convolutions_are_the_networks_own_and_small(settings):
    found = measured._convolutions(config("model.size=[512,512]", *settings, size="[512,512]"))
    assert 1 <= len(found) <= measured.KINDS
    for convolution in found:
        positions = convolution.shape[0] * convolution.shape[2] * convolution.shape[3]
        assert positions * convolution.layer.weight.numel() <= 4 * measured._PRODUCTS
        assert convolution.count >= 1
