"""Every option of the network trains and samples in every dimension, on every awkward shape."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import iddpm
from iddpm.config import read_config
from iddpm.data.levels import to_stored_range
from iddpm.data.sources.open import open_source
from iddpm.tasks.draw import DrawRequest, Written, draw
from iddpm.training.monitoring.terminal import SilentReporter
from tests.builders.steps import trains_and_samples
from tests.builders.test_combinations import every_pair
from tests.conftest import TINY

SHAPES = {
    "signal": (1, 9),
    "signal of 13 channels": (13, 8),
    "picture": (3, 7, 10),
    "picture of 2 channels": (2, 6, 5),
    "picture of 13 channels": (13, 4, 6),
    "volume of odd depth": (1, 5, 4, 7),
    "volume of 13 channels": (13, 3, 4, 4),
    "single slice": (1, 1, 6, 5),
}
ISOTROPIC = "model.stride=[2,2,2]"


def assignments(shape, *more):
    size = ",".join(map(str, shape[1:]))
    return [*TINY, f"model.channels={shape[0]}", f"model.size=[{size}]", *more]


def check(config, shape, batch):
    trains_and_samples(config, shape, batch=batch, steps=1, drawn=batch, evaluations=2)


@pytest.mark.parametrize("config", every_pair())
def test_every_process_in_two_and_three_dimensions(config):
    """All are in one dimension in ``test_combinations``: volumes here halve their depth too.

    An axis more changes how a number per item is spread over it, which each choice does by itself.
    """
    for shape, stride in (((1, 5, 4), None), ((1, 3, 4, 3), (2, 2, 2))):
        model = config.model.model_copy(update={"size": shape[1:], "stride": stride})
        check(config.model_copy(update={"model": model}), shape, batch=1)


@given(
    shape=st.sampled_from(list(SHAPES.values())),
    batch=st.sampled_from([1, 3]),
    isotropic=st.booleans(),
    upsample=st.sampled_from(["transpose", "nearest_conv", "nearest"]),
    downsample=st.sampled_from(["conv", "avg_pool"]),
    updown=st.booleans(),
    film=st.booleans(),
    order=st.sampled_from(["heads_first", "qkv_first"]),
    classes=st.booleans(),
    own_estimate=st.booleans(),
    recompute=st.booleans(),
    circular=st.booleans(),
    conditioned=st.booleans(),
    given=st.sampled_from([0, 2]),
)
@settings(deadline=None, max_examples=50, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_network_on_every_shape(
    shape, batch, isotropic, upsample, downsample, updown, film, order, classes, own_estimate,
    recompute, circular, conditioned, given,
):  # fmt: skip
    more = [
        f"model.upsample={upsample}",
        f"model.downsample={downsample}",
        f"model.resblock_updown={updown}",
        f"model.use_scale_shift_norm={film}",
        f"model.qkv_order={order}",
        f"diffusion.self_condition={own_estimate}",
        f"model.use_checkpoint={recompute}",
    ]
    if not film:
        more.append("model.model_channels=20")  # one channel per group would be deaf
    if classes:
        more += ["model.class_conditional=true", "model.num_classes=2"]
    if conditioned:
        more.append("model.conditions={a: {kind: class, names: [0, 1]}, b: {period: 1}}")
        more.append("model.conditions.b.kind=number")
    if given:
        more.append(f"model.given_channels={given}")
    if isotropic and len(shape) == 4:
        more.append(ISOTROPIC)
    if circular:
        shape = (shape[0], *(2 * -(-n // 2) for n in shape[1:]))
        more.append("model.circular=true")
    check(read_config(None, assignments(shape, *more)), shape, batch)


@pytest.mark.parametrize("name", SHAPES)
def test_from_a_file_to_samples_one_item_at_a_time(tmp_path, name):
    shape = SHAPES[name]
    layout, last = {2: ("NCL", "NLC"), 3: ("NCHW", "NHWC"), 4: ("NCDHW", "NDHWC")}[len(shape)]
    values = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    np.save(tmp_path / "data.npy", values)
    run = iddpm.train(
        tmp_path / "data.npy",
        out=tmp_path / "run",
        settings=[
            *TINY,
            f"data.layout={layout}",
            "data.held_out=0",
            "training.batch_size=1",
            "training.steps=2",
            "training.preview_every=1",
            *([ISOTROPIC] if len(shape) == 4 else []),
        ],
        reporter=SilentReporter(),
    )
    assert run.shape == shape
    assert [path.suffix for path in (run.directory / "samples").iterdir()] == [".png"] * 2
    if len(shape) == 4:
        assert run.config.model.stride == (2, 2, 2)
    draw(
        run,
        DrawRequest(1),
        run.plan(steps=2, sampler="ddim"),
        Written(out=tmp_path / "out", npz=True),
    )
    assert Image.open(tmp_path / "out/grid.png").size > (10, 10)
    written = open_source(tmp_path / "out/samples.npz", layout=last)
    assert (written.shape, written.bits, len(written)) == (shape, 8, 1)
    x = run.sample(1, steps=2, sampler="ddim")
    assert bool(x.isfinite().all())
    assert np.array_equal(to_stored_range(x, 8), written.read_many([0]))
