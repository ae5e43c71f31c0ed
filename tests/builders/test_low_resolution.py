"""Super-resolution in every dimension: settings, training steps and samples."""

import pytest
import torch

from iddpm.builders import (
    add_low_res,
    build_network,
    count_flops,
    held_out_low_res,
    low_res_size,
    resolve,
    training_low_res,
)
from iddpm.builders.low_resolution import build_degradation
from iddpm.config import read_config
from tests.builders.steps import trains_and_samples
from tests.conftest import TINY

SHAPES = {1: (2, 16), 2: (1, 8, 12), 3: (1, 4, 8, 8)}


def settings(dims, *more):
    channels, *size = SHAPES[dims]
    return read_config(
        None,
        [*TINY, "task=super_resolution", "scale=2", f"model.channels={channels}",
         f"model.size={size}", *more],
    )  # fmt: skip


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "more",
    [
        (),
        ("degradation.kind=bicubic", "model.circular=true"),
        ("degradation.kind=blur", "degradation.noise=0.1", "degradation.augment=0.5",
         "model.class_conditional=true", "model.num_classes=2", "diffusion.predicts=v"),
    ],
)  # fmt: skip
def test_it_trains_and_samples_in_every_dimension(dims, more):
    config = settings(dims, *more)
    trains_and_samples(config, SHAPES[dims], batch=4, steps=2, drawn=2, evaluations=3)
    assert count_flops(resolve(config)) > 0


def test_a_scale_for_each_axis():
    config = resolve(settings(3, "scale=[1,2,4]"))
    assert low_res_size(config) == (4, 4, 2)
    assert build_degradation(config)(torch.zeros(1, 1, 4, 8, 8), [0], 0, "x").shape[2:] == (4, 4, 2)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["scale=3"], "8 x 12, which scale=3 does not divide: use data of 6 x 12"),
        (["scale=[2,5]"], "does not divide: use data of 8 x 10"),
        (["scale=[2,2,2]"], r"scale=\[2, 2, 2\] must have a factor for each of the 2 axes"),
        (["scale=1"], "scale=1 increases no resolution"),
        (["sampling.low_res_noise=0.2"], "low_res_noise=0.2 .*degradation.augment=0.2 or more"),
        (["degradation.sigma=2"], "sigma=2 needs kind=blur, and kind=box"),
        (["task=generation"], "scale needs task=super_resolution, and task=generation"),
        (["scale=null"], "needs a scale, such as scale=2"),
        (["diffusion.self_condition=true"], "self_condition=true needs task=generation"),
        (["degradation.kind=cubic"], "'box', 'bicubic' or 'blur'"),
    ],
)
def test_what_does_not_fit_is_named(more, message):
    with pytest.raises(ValueError, match=message) as caught:
        resolve(settings(2, *more))
    assert "\n" not in str(caught.value)


def test_a_degradation_without_the_task_is_refused():
    with pytest.raises(ValueError, match="degradation needs task=super_resolution"):
        read_config(None, ["degradation.kind=blur"])


def test_levels_are_passed_exactly_if_the_network_takes_them():
    plain, augmented = (resolve(settings(1, f"degradation.augment={most}")) for most in (0, 0.5))
    x = torch.rand(64, 2, 16) * 2 - 1
    items = range(64)
    clean = held_out_low_res(plain, x, items)
    assert torch.equal(clean, build_degradation(plain)(x, items, 0, "held-out degradation"))
    assert training_low_res(plain, x, items, 3).keys() == {"low_res"}
    noisy = training_low_res(augmented, x, items, 3)
    levels = noisy["low_res_noise"]
    assert 0 <= float(levels.min()) < 0.05 < 0.45 < float(levels.max()) <= 0.5
    spread = (noisy["low_res"] - clean).flatten(1).std(dim=1)
    assert float((spread / levels).mean()) == pytest.approx(1, abs=0.1)
    assert float(torch.corrcoef(torch.stack([spread, levels]))[0, 1]) > 0.9
    # A function of the step and the item, in any order and batch.
    some = training_low_res(augmented, x[[5, 2]], [5, 2], 3)
    assert all(torch.equal(some[name], noisy[name][[5, 2]]) for name in noisy)
    assert not torch.equal(training_low_res(augmented, x, items, 4)["low_res"], noisy["low_res"])


def test_a_low_resolution_gets_the_requested_noise():
    augmented = resolve(settings(1, "degradation.augment=0.5"))
    low_res = torch.rand(3, 2, 8)
    quiet = add_low_res(augmented, low_res, 0.0, range(3))
    assert torch.equal(quiet["low_res"], low_res)
    assert quiet["low_res_noise"].tolist() == [0, 0, 0]
    loud = add_low_res(augmented, low_res, 0.25, range(3))
    assert loud["low_res_noise"].tolist() == [0.25] * 3
    part = add_low_res(augmented, low_res[1:], 0.25, range(1, 3))
    assert torch.equal(part["low_res"], loud["low_res"][1:])
    assert not torch.equal(
        add_low_res(augmented, low_res, 0.25, range(3), 1)["low_res"], loud["low_res"]
    )
    assert add_low_res(resolve(settings(1)), low_res, 0.0, range(3)).keys() == {"low_res"}


def test_without_augmentation_the_network_is_the_published_one():
    names = [set(build_network(resolve(settings(2, f"degradation.augment={most}"))).state_dict())
             for most in (0, 0.1)]  # fmt: skip
    assert {name.split(".")[0] for name in names[1] - names[0]} == {"noise_embed"}
    assert not names[0] - names[1]
