import pytest
from torch.nn import GroupNorm

from iddpm.builders import build_encoder, build_network, fit, resolve
from iddpm.config import read_config

ROOM = 1e12


def proposed(size, memory=ROOM, *more, channels=1, processes=1):
    wanted = read_config(None, [f"model.channels={channels}", f"model.size={list(size)}", *more])
    resolved = resolve(wanted)
    return fit(wanted, resolved, memory, processes=processes)


@pytest.mark.parametrize(
    ("size", "mult", "attention"),
    [
        ((28, 28), (1, 2, 2), (2, 4)),
        ((32, 32), (1, 2, 2, 2), (2, 4)),
        ((64, 64), (1, 2, 3, 4), (4, 8)),
    ],
)
def test_pictures_with_room_have_the_defaults_of_old(size, mult, attention):
    config = proposed(size).config
    assert config.model.model_channels == 64
    assert config.model.channel_mult == mult
    assert config.model.attention_downsampling == attention
    assert config.model.stride is None
    assert not config.model.use_checkpoint
    assert config.training.batch_size == 64
    assert config.training.microbatch is None
    assert config.sampling.batch_size == 64


@pytest.mark.parametrize(
    ("size", "channels", "width", "batch", "stride"),
    [
        ((16384,), 1, 64, 16, None),
        ((20000,), 1, 64, 8, None),
        ((512, 512), 3, 64, 8, None),
        ((64, 64, 64), 1, 32, 8, (2, 2, 2)),
        ((128, 128, 128), 1, 32, 8, (2, 2, 2)),
        ((8, 64, 64), 3, 32, 8, None),
    ],
)
def test_large_data_is_taken_in_small_batches_that_fit_sixteen_gigabytes(
    size, channels, width, batch, stride
):
    proposal = proposed(size, 16e9, channels=channels)
    assert proposal.needed < 0.65 * 16e9
    model = proposal.config.model
    assert (model.model_channels, model.stride) == (width, stride)
    assert proposal.config.training.batch_size == batch
    deepest = max(model.attention_downsampling)
    positions = 1
    for n, s in zip(
        size, stride or ((1, 2, 2) if len(size) == 3 else (2,) * len(size)), strict=True
    ):
        positions *= -(-n // (deepest if s == 2 else 1))
    assert positions <= 1024


def test_memory_reduces_the_microbatch_then_the_activations_then_the_width():
    seen = []
    for memory in (16e9, 4e9, 1.6e9, 1.2e9):
        proposal = proposed((64, 64), memory)
        config = proposal.config
        seen.append(
            (config.model.model_channels, config.model.use_checkpoint, config.training.microbatch)
        )
        assert config.training.batch_size == 64
        assert proposal.needed <= 0.65 * memory
    assert seen[0] == (64, False, None)
    assert seen[1][:2] == (64, False)
    assert 1 < seen[1][2] < 64
    assert seen[2][:2] == (64, False) or seen[2][:2] == (64, True)
    assert seen == sorted(seen, key=lambda s: (-s[0], s[1], -(s[2] or 64)))
    assert proposed((64, 64), 0.75e9).config.model.model_channels < 64


def test_with_room_more_memory_changes_nothing_and_less_is_said():
    one, more = proposed((28, 28), 40e9), proposed((28, 28), 80e9)
    assert one.config == more.config
    assert one.changed == ()
    assert "model_channels 64, batch 64: about" in str(one)
    assert "overrides" not in str(one)
    less = proposed((28, 28), 1.2e9)
    items = less.config.training.microbatch
    assert f"training.microbatch={items}" in less.changed
    assert f"batch 64 (microbatch {items}): about" in str(less)
    assert "to save memory" in str(less)


def test_what_is_stated_stays():
    stated = ("model.model_channels=48", "model.use_checkpoint=false", "sampling.batch_size=7")
    proposal = proposed((28, 28), 1.2e9, *stated)
    model = proposal.config.model
    assert (model.model_channels, model.use_checkpoint) == (48, False)
    assert proposal.config.sampling.batch_size == 7
    assert proposal.config.training.microbatch
    every = (*stated, "training.microbatch=64")
    proposal = proposed((28, 28), 1.2e9, *every)
    assert proposal.config.training.microbatch == 64
    assert proposal.needed > proposal.memory * 0.65  # said, not refused
    stride = resolve(
        read_config(None, ["model.channels=1", "model.size=[8,8,8]", "model.channel_mult=[1,2]"])
    ).model.stride
    assert stride is None  # the levels are stated, as in runs from before: the strides stay, too


def test_settings_of_no_network_are_named_and_a_smaller_one_that_cannot_be_is_passed_over():
    with pytest.raises(ValueError, match="num_heads=3 does not divide"):
        proposed((28, 28), ROOM, "model.num_heads=3")
    with pytest.raises(ValueError, match="smallest automatic network"):
        proposed((64, 64), 0.75e9, "model.num_head_channels=64")
    assert proposed((64, 64), 0.75e9).config.model.model_channels < 64


def test_processes_share_a_batch():
    alone, shared = (proposed((28, 28), 1.5e9, processes=n) for n in (1, 8))
    assert alone.config.training.microbatch is not None
    assert shared.config.training.microbatch is None
    assert shared.needed < alone.needed * 2


@pytest.mark.parametrize(
    ("size", "advice"),
    [
        ((100_000,), "data.window=50000"),
        ((512, 512), "data.image_size=256"),
        ((64, 64, 64), r"data.window=\[32, 32, 32\]"),
    ],
)
def test_where_nothing_fits_it_is_said_what_would(size, advice):
    with pytest.raises(ValueError, match=advice) as caught:
        proposed(size, 0.4e9)
    assert "\n" not in str(caught.value)
    assert "GB" in str(caught.value)


def test_groups_are_wide_where_the_levels_are_proposed_and_published_where_they_are_stated():
    """A run from before the setting states its levels and must stay what it was."""
    facts = ["model.channels=1", "model.size=[16,16]", "model.model_channels=32"]
    proposed = resolve(read_config(None, facts))
    assert proposed.model.group_channels == 4
    stated = resolve(read_config(None, [*facts, "model.channel_mult=[1,2]"]))
    assert stated.model.group_channels is None
    for config, groups in ((proposed, {8, 16}), (stated, {32})):
        norms = [m for m in build_network(config).modules() if isinstance(m, GroupNorm)]
        few = {norm.num_groups for norm in norms if norm.num_channels in (32, 64)}
        assert few == groups
    encoder = build_encoder(
        proposed.model_copy(update={"task": "classification", "class_names": ("a", "b")})
    )
    norms = [m for m in encoder.modules() if isinstance(m, GroupNorm)]
    assert {norm.num_channels // norm.num_groups for norm in norms} == {4}
