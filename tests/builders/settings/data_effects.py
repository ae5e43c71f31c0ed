"""The settings of the data, and of how samples are written."""

import numpy as np
import soundfile
import torch
from PIL import Image

from iddpm.builders import attach_paired_data, form_of, open_data, values_of
from iddpm.builders.run_data import open_conditioned, open_split, training_batches
from iddpm.data import batches as reading
from iddpm.data.values import Values
from tests.builders.settings.effect import DIFFERS, Effect
from tests.conftest import TINY, images

ARRAY = ("data.path={folder}/a.npz",)
PICTURES = ("data.path={folder}/pictures",)
SOUNDS = ("data.path={folder}/sounds", "data.window=16")


def files(folder):
    """Make one of everything that the settings are about."""
    np.savez(folder / "a.npz", arr_0=images(), arr_1=np.arange(60) % 3)
    np.savez(folder / "two.npz", left=images()[:20], right=images()[:30])
    np.save(folder / "plain.npy", images()[:40])
    twins = images()[:60].copy()
    twins[::3] = twins[0]
    np.save(folder / "twins.npy", twins)
    np.save(folder / "axes.npy", np.zeros((40, 3, 8, 16), np.uint8))
    np.save(folder / "signals.npy", np.tile(np.linspace(-1, 1, 64), (40, 1)).astype(np.float32))
    np.save(
        folder / "other.npy", np.linspace(-1, 1, 60 * 64, dtype=np.float32).reshape(60, 8, 8, 1)
    )
    rows = [f"{n},{n},{2 * n}" for n in range(60)]
    (folder / "t.csv").write_text("\n".join(["row,age,size", *rows]))
    (folder / "u.csv").write_text("\n".join(["row,weight", *(f"{n},{n}" for n in range(60))]))
    for n in range(4):
        path = folder / f"pictures/{'ab'[n % 2]}/{'cd'[n // 2]}_{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 40 * n, np.uint8)).save(path)
    missing = np.tile(np.linspace(-1, 1, 64), (40, 1)).astype(np.float32)
    missing[:, 3] = np.nan
    np.save(folder / "missing.npy", missing)
    (folder / "broken").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "broken/0.png")
    (folder / "broken/1.png").write_bytes(b"no picture")
    (folder / "sounds").mkdir()
    for n in range(2):
        tone = np.sin(np.arange(400) / (3 + n)) * 0.5
        soundfile.write(folder / f"sounds/{n}.wav", tone, 8000, subtype="PCM_16")


def data(look, seen, *also):
    """Return an effect on data that is opened."""
    return Effect(look, seen, also, files, base=TINY)


def opened(look):
    return lambda scene: look(open_data(scene.config))


def facts(look):
    return lambda scene: look(*open_conditioned(scene.config))


def shape(source):
    return source.shape


def given(scene):
    """The first values of what goes with the first item."""
    config = scene.config
    source = open_data(config)
    attach_paired_data(config, source)
    other = source.given
    return None if other is None else [other.shape, other.read(0).flatten()[:3].tolist()]


def corrupt(scene):
    """What happens to a picture that is cut off."""
    try:
        source = open_data(scene.config)
        return [len(source), len(source.read_many(range(len(source))))]
    except ValueError:
        return "refused"


def padded(scene):
    """What happens to sounds shorter than a window."""
    try:
        return open_data(scene.config).shape
    except ValueError:
        return "refused"


def filled(scene):
    """What the first of some missing numbers is read as."""
    try:
        return round(float(open_data(scene.config).read(0)[0, 3]), 4)
    except ValueError:
        return "refused"


def large(scene):
    """What happens to pictures where Pillow's limit is low."""
    scene.patch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    scene.patch.setenv("IDDPM_MAX_PIXELS", "")
    try:
        return len(open_data(scene.config))
    except ValueError as error:
        return str(error).partition("the limit of ")[2].partition(":")[0]


def ahead(name):
    """Return what looks at how batches are read ahead; None where they are not."""

    def look(scene):
        passed = {}

        def read_ahead(read, steps, **options):
            passed.update(options)
            return map(read, steps)

        scene.patch.setattr(reading, "read_ahead", read_ahead)
        config = scene.config
        config = config.model_copy(
            update={"training": config.training.model_copy(update={"steps": 2, "batch_size": 4})}
        )
        split = open_split(config)
        assert len(list(training_batches(config, *split[:2], 0, torch.device("cpu")))) == 2
        return passed.get(name)

    return look


def cached(scene):
    """Where items are kept once they are decoded."""
    scene.patch.setenv("IDDPM_CACHE", str(scene.folder / "user"))
    open_data(scene.config)
    mine = scene.folder.parent / "mine"
    return [mine.is_dir(), (scene.folder / "user/items").is_dir()]


DATA = {
    "data.path": [data(opened(len), {"{folder}/a.npz": 60, "{folder}/plain.npy": 40})],
    "data.image_size": [data(opened(shape), {"null": (3, 8, 8), "4": (3, 4, 4),
                                             "[4,6]": (3, 4, 6)}, *PICTURES)],
    "data.channels": [data(opened(shape), {"null": (3, 8, 8), "1": (1, 8, 8)}, *PICTURES)],
    "data.labels": [
        data(opened(lambda s: s.class_names), {"auto": ("0", "1", "2"), "none": ()}, *ARRAY),
        data(opened(lambda s: s.class_names), {"folder": ("a", "b"), "prefix": ("c", "d")},
             *PICTURES),
    ],
    "data.conditions": [
        data(facts(lambda config, split: list(config.model.conditions or {})),
             {"null": [], "{folder}/t.csv": ["age", "size"], "{folder}/u.csv": ["weight"]}, *ARRAY),
    ],
    "data.given": [
        data(given, {"null": None, "{folder}/other.npy": DIFFERS, "{folder}/a.npz": DIFFERS},
             *ARRAY),
    ],
    "data.given_range": [
        data(given, {"null": DIFFERS, "[-2,2]": DIFFERS}, *ARRAY, "data.given={folder}/other.npy"),
    ],
    "data.column": [data(opened(len), {"left": 20, "right": 30}, "data.path={folder}/two.npz")],
    "data.layout": [
        data(opened(shape), {"NCHW": (3, 8, 16), "NHWC": (16, 3, 8)},
             "data.path={folder}/axes.npy"),
    ],
    "data.window": [
        data(opened(shape), {"16": (1, 16), "32": (1, 32)}, "data.path={folder}/signals.npy"),
    ],
    "data.stride": [
        data(opened(len), {"null": 160, "8": 280}, "data.path={folder}/signals.npy",
             "data.window=16"),
    ],
    "data.fill": [
        data(filled, {"null": "refused", "0.25": 0.25, "-1": -1.0},
             "data.path={folder}/missing.npy"),
    ],
    "data.pad_short": [
        data(padded, {"false": "refused", "true": (1, 500)}, SOUNDS[0], "data.window=500"),
    ],
    "data.sample_rate": [
        data(opened(lambda s: [s.form.sample_rate, len(s)]), {"null": [8000, 50],
                                                              "4000": [4000, 24]}, *SOUNDS),
    ],
    "data.range": [
        data(opened(lambda s: [round(float(v), 4) for v in s.read(0).flatten()[:2]]),
             {"null": [-1.0, -0.9683], "[-2,2]": [-0.5, -0.4841]},
             "data.path={folder}/signals.npy"),
        data(lambda s: values_of(s.config), {"null": Values("uint8", 0.0, 255.0),
                                             "[0,100]": Values("uint8", 0.0, 100.0)}),
    ],
    "data.corrupt": [data(corrupt, {"error": "refused", "skip": [1, 1]},
                          "data.path={folder}/broken")],
    "data.max_pixels": [data(large, {"null": "50", "63": "63", "64": 4}, *PICTURES)],
    "data.cache": [data(cached, {"none": [False, False], "auto": [False, True],
                                 "{folder}/mine": [True, False]}, *PICTURES)],
    "data.held_out": [
        data(facts(lambda config, split: len(split.held_out)),
             {"0": 0, "0.2": DIFFERS, "0.6": DIFFERS}, *ARRAY),
        data(facts(lambda config, split: len(split.held_out) + len(split.train) == 60
                  and len(split.held_out) > 25), {"0.2": False, "0.6": True}, *ARRAY),
    ],
    "data.group": [
        data(facts(lambda config, split: split.held_out.tolist()),
             {"[0-9]": DIFFERS, "[0-9]+": DIFFERS}, *ARRAY, "data.held_out=0.5"),
    ],
    "data.identical": [
        data(facts(lambda config, split: (split.held_out % 3).tolist().count(0) % 20 == 0),
             {"together": True, "apart": False}, "data.path={folder}/twins.npy",
             "data.held_out=0.5"),
    ],
    "data.workers": [data(ahead("workers"), {"0": None, "2": 2, "3": 3}, *ARRAY)],
    "data.worker_timeout": [
        data(ahead("timeout"), {"300": 300.0, "7": 7.0}, *ARRAY, "data.workers=1"),
    ],
}  # fmt: skip


def form(name):
    return lambda scene: getattr(form_of(scene.config), name)


FORM = {
    "form.kind": [data(form("kind"), {"array": "array", "signal": "signal", "clip": "clip"})],
    "form.dtype": [
        data(lambda s: values_of(s.config).dtype, {"null": "uint8", "int16": "int16"},
             "data.range=[0,100]"),
        data(lambda s: form_of(s.config).values.dtype, {"null": "uint8", "int16": "int16"},
             "data.range=[0,100]"),
    ],
    "form.sample_rate": [data(form("sample_rate"), {"8000": 8000, "44100": 44100})],
    "form.encoding": [data(form("encoding"), {"PCM_16": "PCM_16", "GIF": "GIF"})],
    "form.container": [data(form("container"), {"null": None, "FLAC": "FLAC"})],
    "form.affine": [
        data(form("affine"), {"null": None, "[[1,0],[0,2]]": ((1.0, 0.0), (0.0, 2.0))}),
    ],
    "form.milliseconds": [data(form("milliseconds"), {"40": 40, "120": 120})],
    "form.channel_names": [data(form("channel_names"), {"null": None, "[V1,V2]": ("V1", "V2")})],
    "form.units": [data(form("units"), {"null": None, "[mV,uV]": ("mV", "uV")})],
}  # fmt: skip
