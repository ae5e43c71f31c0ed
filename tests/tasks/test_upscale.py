"""Trained runs upscale files of any size in tiles, in 1, 2 and 3 dimensions."""

import json

import nibabel
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import iddpm
from iddpm.cli.main import run as command
from iddpm.data.levels import to_model_range
from iddpm.data.sources.open import open_source
from iddpm.tasks.upscale import upscale
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images


def make(folder, name, data, *settings):
    return iddpm.train(
        data,
        out=folder / name,
        settings=[*TINY, "training.steps=4", "task=super_resolution", "scale=2", *settings],
        reporter=SilentReporter(),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("upscale")
    np.savez(path / "x.npz", arr_0=images(), arr_1=np.arange(60) % 3)
    return path


@pytest.fixture(scope="module")
def run(folder):
    return make(folder, "run", folder / "x.npz", "degradation.augment=0.5")


def low_res(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_one_tile_is_a_sample_of_the_trained_size_bit_for_bit(run):
    x = low_res(3, 1, 4, 4)
    samples = run.sample(3, seed=5, given={"low_res": x}, low_res_noise=0.2)
    assert torch.equal(run.upscale(x, seed=5, low_res_noise=0.2), samples)
    assert not torch.equal(run.upscale(x, seed=6, low_res_noise=0.2), samples)
    assert not torch.equal(run.upscale(x, seed=5), samples)


def test_an_item_depends_on_its_seed_and_number_alone(run):
    """Whatever the number of tiles at a time, and whoever comes before it."""
    x = low_res(3, 1, 7, 10)
    whole = run.upscale(x, low_res_noise=0.3)
    assert whole.shape == (3, 1, 14, 20)
    for at_once in (1, 4, 7):
        other = run.upscale(x, low_res_noise=0.3, batch_size=at_once)
        assert float((whole - other).abs().max()) < 1e-4
    alone = run.upscale(x[2:], low_res_noise=0.3, start=2)
    assert float((whole[2:] - alone).abs().max()) < 1e-4
    assert float((whole - run.upscale(x, low_res_noise=0.3, start=1)).abs().max()) > 1e-3


def test_the_network_sees_tiles_of_the_trained_size_and_few_at_a_time(run):
    seen, network = [], run.denoiser.network
    hook = network.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(
            (tuple(args[0].shape), tuple(kwargs["low_res"].shape))
        ),
        with_kwargs=True,
    )
    counted = []
    run.upscale(low_res(2, 1, 9, 4), batch_size=4, steps=2, on_batch=lambda: counted.append(1))
    run.upscale(low_res(1, 1, 3, 2), steps=2)  # mirrored up to a tile
    hook.remove()
    assert {shape[1:] for shape, _ in seen} == {(1, 8, 8)}
    assert {shape[1:] for _, shape in seen} == {(1, 4, 4)}
    assert max(shape[0] for shape, _ in seen) == 3  # one item's
    assert len(counted) == 2 * 2


def test_estimates_come_tile_by_tile_and_end_at_the_result(run):
    x, seen = low_res(2, 1, 7, 4), []
    how = {"steps": 2, "batch_size": 1}
    drawn = run.upscale(x, **how, on_state=lambda now: seen.append(now.clone()))
    assert torch.equal(drawn, run.upscale(x, **how))
    assert {tuple(now.shape) for now in seen} == {(1, 1, 14, 8)}
    assert len(seen) == 2 * 2 * 2  # items, steps, tiles
    linear = torch.nn.functional.interpolate(x, (14, 8), mode="bilinear")
    for item in (0, 1):
        first, second, *_ = seen[4 * item : 4 * item + 4]
        assert torch.equal(first[0, :, 8:], linear[item, :, 8:])  # not yet drawn
        assert torch.equal(second[0, :, :6], first[0, :, :6])  # of the first tile alone
        assert not torch.equal(second[0, :, 8:], first[0, :, 8:])
    one = []
    drawn = run.upscale(low_res(2, 1, 4, 4), steps=2, on_state=lambda now: one.append(now.clone()))
    assert len(one) == 2
    assert torch.equal(one[-1], drawn)  # the last estimate of a single tile is the sample


def test_pictures_of_many_sizes(run, tmp_path, capsys):
    generator = np.random.default_rng(0)
    (tmp_path / "in/more").mkdir(parents=True)
    sizes = {"a.png": (4, 4), "b.png": (4, 4), "more/c.bmp": (9, 5), "more/d.png": (3, 2)}
    for name, size in sizes.items():
        Image.fromarray(generator.integers(0, 255, size, np.uint8)).save(tmp_path / "in" / name)
    out = tmp_path / "out"
    written = upscale(run, [tmp_path / "in"], out=out, steps=3)
    names = ["a.png", "b.png", "more/c.png", "more/d.png", "comparison.png"]
    assert [path.relative_to(out).as_posix() for path in written] == names
    for name, (height, width) in zip(names, sizes.values(), strict=False):
        with Image.open(out / name) as image:
            assert (image.mode, image.size) == ("L", (2 * width, 2 * height))
    with Image.open(out / "comparison.png") as image:  # two items of the first size, three each
        assert image.size == (2 + 6 * 66, 68)
    printed = capsys.readouterr().out
    assert "4 items in 9 tiles, each 3 evaluations: ipndm, karras" in printed
    for path in written:
        assert f"wrote {path}" in printed
    # The same as from Python; the third file is item 2.
    with Image.open(tmp_path / "in/more/c.bmp") as image:
        stored = np.array(image)
    x = run.upscale(to_model_range(stored, 8)[None, None], start=2, steps=3)
    with Image.open(out / "more/c.png") as image:
        drawn = np.asarray(image).astype(int)
    assert np.abs(drawn - ((x[0, 0].clamp(-1, 1) + 1) * 127.5).round().numpy()).max() <= 1


def test_nothing_is_overwritten_and_nothing_half_done(run, tmp_path):
    Image.fromarray(images(1)[0, :4, :4, 0]).save(tmp_path / "a.png")
    Image.fromarray(images(1)[0, :4, :4].repeat(3, 2)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png is a picture of mode RGB, 3 channels"):
        upscale(run, [tmp_path / "a.png", tmp_path / "b.png"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    upscale(run, [tmp_path / "a.png"], out=tmp_path / "out", steps=1)
    before = (tmp_path / "out/a.png").read_bytes()
    with pytest.raises(FileExistsError, match=r"out/a\.png exists and would be overwr"):
        upscale(run, [tmp_path / "a.png"], out=tmp_path / "out", seed=1)
    with pytest.raises(FileExistsError, match="exists and would be overwritten"):
        upscale(run, [tmp_path / "a.png"], out=tmp_path)  # itself
    assert (tmp_path / "out/a.png").read_bytes() == before
    (tmp_path / "a.png").rename(tmp_path / "comparison.png")
    with pytest.raises(ValueError, match=r"a file cannot become comparison\.png"):
        upscale(run, [tmp_path / "comparison.png"], out=tmp_path / "out")


def test_what_a_model_cannot_do_is_said(run, folder, tmp_path):
    Image.fromarray(images(1)[0, :4, :4, 0]).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"low_res_noise=0\.9 needs a super-resolution model"):
        upscale(run, [tmp_path / "a.png"], low_res_noise=0.9)
    with pytest.raises(ValueError, match="class 'cat' was requested"):
        upscale(run, [tmp_path / "a.png"], class_name="cat")
    plain = iddpm.train(
        folder / "x.npz", out=folder / "plain", settings=[*TINY, "training.steps=1"],
        reporter=SilentReporter(),
    )  # fmt: skip
    with pytest.raises(ValueError, match="trained with task=generation: upscaling needs a run"):
        upscale(plain, [tmp_path / "a.png"])


def test_classes_are_none_unless_one_is_said(folder, tmp_path):
    conditioned = make(
        folder, "conditioned", folder / "x.npz", "model.class_conditional=true",
        "training.label_dropout=0.5", "sampling.guidance=2",
    )  # fmt: skip
    x, seen = low_res(1, 1, 6, 4), []
    hook = conditioned.denoiser.network.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(set(kwargs["y"].tolist())),
        with_kwargs=True,
    )
    conditioned.upscale(x, steps=1)
    conditioned.upscale(x, steps=1, classes=2)
    assert seen == [{-1}, {2, -1}]
    hook.remove()
    np.save(tmp_path / "a.npy", ((x[0, 0].numpy() + 1) * 127).astype(np.uint8))
    upscale(conditioned, [tmp_path / "a.npy"], class_name="2", out=tmp_path / "out", steps=1)
    assert np.load(tmp_path / "out/a.npy").shape == (12, 8)
    always = make(
        folder, "always", folder / "x.npz", "model.class_conditional=true",
        "training.label_dropout=0",
    )  # fmt: skip
    with pytest.raises(ValueError, match="needs a class for every sample"):
        upscale(always, [tmp_path / "a.npy"])
    assert always.upscale(x, classes="1", steps=1).shape == (1, 1, 12, 8)


def test_every_item_has_its_own_conditions(folder, tmp_path):
    np.savez(folder / "aged.npz", arr_0=images(), age=np.linspace(20, 80, 60))
    conditioned = make(
        folder, "aged", folder / "aged.npz", "data.conditions=[age]", "training.label_dropout=0.1"
    )
    seen = []
    conditioned.denoiser.network.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(kwargs["conditions"].flatten().tolist()),
        with_kwargs=True,
    )
    np.save(tmp_path / "a.npy", images(2, size=4))
    np.save(tmp_path / "b.npy", images(2, size=6)[:1])
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    upscale(conditioned, files, conditions={"age": "20..80"}, steps=1, out=tmp_path / "out")
    assert seen == [[-1, 0], [1] * 4]  # two items of a tile, then the tiles of a third
    seen.clear()
    upscale(conditioned, files[:1], steps=1, out=tmp_path / "open")
    assert np.isnan(seen).all()


def test_long_signals_as_sounds_tables_and_arrays(folder, tmp_path):
    (tmp_path / "sounds").mkdir()
    tone = (np.sin(np.arange(900) / 5) * 20_000).astype(np.int16)
    soundfile.write(tmp_path / "sounds/0.wav", tone, 8000, subtype="PCM_16")
    run = make(folder, "sounds", tmp_path / "sounds", "data.window=32")
    soundfile.write(tmp_path / "a.wav", tone[::2], 4000, subtype="PCM_16")
    np.save(tmp_path / "b.npy", tone[None, 0:40:2].repeat(3, 0))
    np.savetxt(tmp_path / "c.csv", np.column_stack([tone[:30].reshape(2, 15), [5, 6]]), fmt="%d")
    files = [tmp_path / name for name in ("a.wav", "b.npy")]
    upscale(run, files, out=tmp_path / "out", steps=2)
    sound, rate = soundfile.read(tmp_path / "out/a.wav", dtype="int16")
    assert (len(sound), rate) == (900, 8000)
    upscaled = np.load(tmp_path / "out/b.npy")
    assert (upscaled.shape, upscaled.dtype) == ((3, 40), np.int16)
    soundfile.write(tmp_path / "d.wav", tone, 8000, subtype="PCM_16")
    with pytest.raises(ValueError, match="has 8000 Hz, and the model upscales 4000 Hz to 8000 Hz"):
        upscale(run, [tmp_path / "d.wav"], out=tmp_path / "out")


def test_series_come_out_as_a_table(folder, tmp_path):
    rows = np.column_stack([np.random.default_rng(0).uniform(20, 30, (40, 16)), np.arange(40) % 2])
    np.savetxt(tmp_path / "x.csv", rows, delimiter=",")
    run = make(folder, "series", tmp_path / "x.csv")
    low, high = run.config.data.range
    coarse = rows[:3, :-1].reshape(3, 8, 2).mean(-1)
    np.savetxt(tmp_path / "a.csv", np.column_stack([coarse, [0, 1, 0]]), delimiter=",")
    upscale(run, [tmp_path / "a.csv"], out=tmp_path / "out", steps=2)
    upscaled = np.loadtxt(tmp_path / "out/a.csv", delimiter=",")
    assert (upscaled.shape, upscaled[:, -1].tolist()) == ((3, 17), [0, 1, 0])
    assert low - 1e-4 <= upscaled[:, :-1].min() < upscaled[:, :-1].max() <= high + 1e-4


def test_volumes_larger_and_smaller_than_a_tile(folder, tmp_path):
    affine = np.diag([2.0, 2, 3, 1])
    voxels = np.random.default_rng(0).integers(0, 900, (80, 8, 8)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "brain.nii.gz")
    run = make(
        folder, "volumes", tmp_path / "brain.nii.gz", "data.window=[8,8,8]", "data.stride=2",
        "scale=[1,2,2]",
    )  # fmt: skip
    for name, size in (("large.nii.gz", (8, 7, 9)), ("small.nii", (3, 4, 2))):
        image = nibabel.Nifti1Image(voxels[: size[0], : size[1], :8][..., : size[2]], affine)
        nibabel.save(image, tmp_path / name)
        upscale(run, [tmp_path / name], out=tmp_path / "out", steps=2, batch_size=4)
        upscaled = nibabel.load(tmp_path / "out" / name)
        assert upscaled.shape == (image.shape[0], 2 * image.shape[1], 2 * image.shape[2])
        assert upscaled.get_data_dtype() == np.int16
        assert np.allclose(upscaled.header.get_zooms(), (2, 1, 1.5))
    assert (tmp_path / "out/comparison.png").is_file()


def test_a_published_upsampler_in_a_run_directory(tmp_path):
    """Weights by the published names and settings without data are all that it takes."""
    import yaml
    from safetensors.torch import save_file

    from iddpm.builders import build_network, resolve
    from iddpm.config import read_config
    from iddpm.config.settings import to_yaml
    from iddpm.interop.openai import build_published, constructor_from_flags

    flags = {"large_size": 64, "num_channels": 8, "num_res_blocks": 1, "channel_mult": "1,2",
             "class_cond": True, "learn_sigma": True, "attention_resolutions": "32"}  # fmt: skip
    network = build_published(*constructor_from_flags("improved-diffusion", flags))
    with open("examples/upsampler_64_256.yaml") as file:
        settings = yaml.safe_load(file)
    settings["model"] |= {
        "size": [64, 64], "model_channels": 8, "num_res_blocks": 1, "channel_mult": [1, 2],
        "attention_downsampling": [2],
    }  # fmt: skip
    settings["sampling"] = {"steps": 2}
    config = resolve(read_config(None, base=settings))
    assert build_network(config).state_dict().keys() == network.state_dict().keys()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(to_yaml(config))
    save_file(network.state_dict(), tmp_path / "run/model.safetensors")
    Image.fromarray(np.zeros((20, 12, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = ["upscale", str(tmp_path / "run"), str(tmp_path / "a.png")]
    assert command(arguments) == 2  # no class
    assert command([*arguments, "--class", "7"]) == 0
    with Image.open(tmp_path / "run/upscaled/a.png") as image:
        assert (image.mode, image.size) == ("RGB", (48, 80))


def test_what_is_not_finite_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(type(run), "upscale", lambda self, x, **_: x.repeat(1, 1, 2, 2) / 0)
    Image.fromarray(images(1)[0, :4, :4, 0]).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"result for .*a\.png holds NaN or infinity"):
        upscale(run, [tmp_path / "a.png"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lost", [["3.npy"], ["comparison.png"], ["0.npy", "comparison.png"]])
def test_an_interrupted_call_goes_on_where_it_was(run, tmp_path, lost):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for k in range(5):
        np.save(source / f"{k}.npy", images(5)[k, : 4 + 4 * (k == 4), :4, 0])
    first = upscale(run, [source], out=out, steps=2, batch_size=2)
    made = {path.name: path.read_bytes() for path in first}
    for name in lost:
        (out / name).unlink()
    kept = {path.name: path.stat().st_mtime_ns for path in first if path.exists()}
    manifest = json.loads((out / "upscale.json").read_text())
    assert manifest["complete"] is True
    assert manifest["files"] == [path.name for path in first]
    again = upscale(run, [source], out=out, steps=2, batch_size=2)
    assert again == first
    assert {path.name: path.read_bytes() for path in again} == made
    assert all((out / name).stat().st_mtime_ns == at for name, at in kept.items())
    for change in ({"seed": 1}, {"steps": 1}):
        with pytest.raises(FileExistsError, match="only the same command"):
            upscale(run, [source], out=out, **{"steps": 2, "batch_size": 2, **change})


def test_a_partial_set_of_upscaled_files_is_marked(run, tmp_path, monkeypatch):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for k in range(3):
        Image.fromarray(images(3)[k, : 4 + 4 * k, :4, 0]).save(source / f"{k}.png")
    whole = upscale(run, [source], out=tmp_path / "whole", steps=1)
    draw, calls = type(run).upscale, []

    def interrupted(self, *args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(self, *args, **options)

    monkeypatch.setattr(type(run), "upscale", interrupted)
    with pytest.raises(KeyboardInterrupt):
        upscale(run, [source], out=out, steps=1)
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "upscale.json"]
    with pytest.warns(UserWarning, match=r"is incomplete: .*upscale\.json"):
        open_source(out)
    monkeypatch.setattr(type(run), "upscale", draw)
    for path in upscale(run, [source], out=out, steps=1):
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()
    assert (out / "upscale.json").read_bytes() == (tmp_path / "whole/upscale.json").read_bytes()
    assert len(whole) == 4


def test_items_are_drawn_with_their_labels(folder, tmp_path):
    conditioned = make(
        folder, "labeled", folder / "x.npz", "model.class_conditional=true",
        "training.label_dropout=0.5", "training.learning_rate=0.01",
    )  # fmt: skip
    seen = []
    conditioned.denoiser.network.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(kwargs["y"].tolist()), with_kwargs=True
    )
    x, y = images(3)[:, :4, :4, 0], np.array([0, 2, -1])
    np.savez(tmp_path / "a.npz", images=x, labels=y)
    upscale(conditioned, [tmp_path / "a.npz"], out=tmp_path / "out", steps=1)
    assert seen == [[0, 2, -1]]
    with np.load(tmp_path / "out/a.npz") as found:
        assert found["labels"].tolist() == [0, 2, -1]
        assert found["images"].shape == (3, 8, 8)
    upscale(conditioned, [tmp_path / "a.npz"], class_name="1", out=tmp_path / "one", steps=1)
    assert seen[1:] == [[1, 1, 1]]
    with np.load(tmp_path / "one/a.npz") as found:
        assert found["labels"].tolist() == [1, 1, 1]
    np.savez(tmp_path / "b.npz", images=x, labels=[0, 9, 1])
    with pytest.raises(ValueError, match="9"):
        upscale(conditioned, [tmp_path / "b.npz"], out=tmp_path / "two")
    np.save(tmp_path / "c.npy", x)
    with pytest.raises(ValueError, match="guidance=3 needs a class"):
        upscale(conditioned, [tmp_path / "c.npy"], out=tmp_path / "two", guidance=3.0)
    assert not (tmp_path / "two").exists()
