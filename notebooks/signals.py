# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sounds and sensor signals
#
# At the end of this page you have
#
# - a model of brain waves (EEG), read from a CSV file in windows that overlap,
# - a model of sounds, read from a folder of WAV files with the folders as classes,
# - new windows as CSV and new sounds as WAV files.
#
# The EEG is real: matplotlib contains ten seconds of four electrodes. The sounds are computed here. Both models are trained for
# seconds: they learn the spectrum roughly, not more. The last section has the commands for real use.
#
# You need `pip install 'iddpm[plots,audio]'`.

# %%
import os
import shlex
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image

import iddpm
from iddpm.cli.main import run as command_line

start, folder = os.getcwd(), tempfile.TemporaryDirectory()
os.chdir(folder.name)  # everything below is written there


def terminal(line):
    """Run a command of the terminal here, because starting Python and PyTorch again takes seconds."""
    assert command_line(shlex.split(line)[1:]) == 0, line


# %% [markdown]
# ## A table of sensor signals
#
# A CSV file has one series per row. (`data.layout=columns` reads one from each column instead.) A first or last column may hold the class.
# Here each row is an electrode: its name, then 800 samples.

# %%
with get_sample_data("eeg.dat") as file:
    eeg = np.frombuffer(file.read(), float).reshape(800, 4).T
with open("eeg.csv", "w") as table:
    for electrode, series in zip(("PG3", "PG5", "PG7", "PG9"), eeg, strict=True):
        table.write(f"{electrode}," + ",".join(f"{value:.3f}" for value in series) + "\n")

figure, axis = plt.subplots(figsize=(9, 3), layout="constrained")
for k, series in enumerate(eeg):
    axis.plot(np.arange(800) / 80, series / 8 - k, lw=0.8)
axis.set(xlabel="seconds", yticks=range(0, -4, -1), yticklabels=["PG3", "PG5", "PG7", "PG9"])
plt.show()

# %% [markdown]
# ## Windows
#
# A model has a fixed input size, so long series are cut into windows: `data.window=64`. Windows start `data.stride` samples
# apart. The default is one window, so that they do not overlap. A smaller stride gives more windows, which overlap:

# %%
terminal("iddpm data inspect eeg.csv -s data.labels=first -s data.window=64 -s data.stride=8")
Image.open("inspect.png")

# %% [markdown]
# - `found`: each of the 4 series of 800 samples has 93 windows, which start at 0, 8, ..., 736. Without overlap there would be 12.
# - `values`: floats have no known range, so the lowest and the highest value are measured. They become -1 and 1, and samples are written in
#   the original units.
# - `split`: **windows of one recording stay together.** Overlapping windows are almost the same, so some in training and some held
#   out would measure memorizing. Here one whole electrode is held out. Your own data should have many recordings.
#
# ## Train on windows

# %%
small = [
    "model.model_channels=16",
    "model.num_res_blocks=1",
    "model.channel_mult=[1,2,2]",
    "model.attention_downsampling=[]",
    "diffusion.predicts=v",
    "training.precision=float32",
    "training.batch_size=16",
    "training.learning_rate=5e-3",
    "training.anneal=linear",
    "training.ema_rates=[0.9]",
    "training.log_every=40",
    "training.preview_every=0",
]
run = iddpm.train(
    "eeg.csv",
    settings=["data.labels=first", "data.window=64", "data.stride=8", *small, "training.steps=80"],
    out="runs/eeg",
)
terminal("iddpm sample runs/eeg -n 64 --steps 10 --out eeg_samples")
print(sorted(os.listdir("eeg_samples")))

# %% [markdown]
# The samples are a CSV file in the units of the data, so other programs can read it. Compare the samples with the data by eye and by
# their spectra:

# %%
drawn = np.loadtxt("eeg_samples/samples.csv", delimiter=",", ndmin=2)[:, :64]
real = np.stack([series[i : i + 64] for series in eeg for i in range(0, 737, 8)])
figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
for axis, windows, title in ((axes[0], real[::60], "data"), (axes[1], drawn[:7], "samples")):
    for k, window in enumerate(windows):
        axis.plot((window - window.mean()) / 8 - k, lw=0.8)
    axis.set(title=title, xlabel="sample", yticks=[])
for windows, label in ((real, "data"), (drawn, "samples")):
    centered = windows - windows.mean(axis=1, keepdims=True)
    power = (np.abs(np.fft.rfft(centered * np.hanning(64))) ** 2).mean(axis=0)
    axes[2].plot(np.fft.rfftfreq(64, 1 / 80)[1:], power[1:], label=label)
axes[2].set(title="power", xlabel="frequency in Hz", yscale="log")
axes[2].legend()
plt.show()
print(f"standard deviation: data {real.std():.2f}, samples {drawn.std():.2f}")

# %% [markdown]
# The spectra agree up to about 20 Hz. Above, the samples have too much power: the noise that so short a training leaves.
#
# ## A folder of sounds
#
# Sounds are WAV, FLAC and other files, read whole or in windows. The folders are classes. These are tones that decay: `plucked` ones
# have overtones, `pure` ones do not.

# %%
random = np.random.default_rng(0)
seconds = np.arange(512) / 4000
for name, overtones in (("pure", [1]), ("plucked", [1, 0.8, 0.6, 0.4])):
    os.makedirs(f"tones/{name}")
    for k in range(40):
        pitch = random.uniform(100, 200)
        tone = sum(a * np.sin(2 * np.pi * pitch * n * seconds) for n, a in enumerate(overtones, 1))
        tone *= np.exp(-random.uniform(10, 20) * seconds) / sum(overtones)
        soundfile.write(f"tones/{name}/{k:02}.wav", 0.9 * tone, 4000, subtype="PCM_16")

sounds = ["data.window=128", "data.stride=64"]
run = iddpm.train(
    "tones",
    settings=[*sounds, "model.class_conditional=true", *small, "training.steps=80"],
    out="runs/tones",
)
terminal("iddpm sample runs/tones -n 4 --class plucked --steps 10 --out new_tones")
print(sorted(os.listdir("new_tones")))
sound = soundfile.info("new_tones/000000.wav")
print(f"{sound.frames} samples at {sound.samplerate} Hz, {sound.subtype}, as the data")

# %%
x = torch.cat([run.sample(4, classes=name, steps=10, seed=0) for name in ("pure", "plucked")])
iddpm.save_grid(x, "classes.png", columns=4)
Image.open("classes.png")

# %% [markdown]
# The upper row is `pure`, the lower `plucked`. Does the model know what tells the classes apart? Measure the share of the energy above 250 Hz,
# where only overtones are:


# %%
def share_above(windows, hertz=250, rate=4000):
    power = np.abs(np.fft.rfft(windows * np.hanning(windows.shape[1]))) ** 2
    high = np.fft.rfftfreq(windows.shape[1], 1 / rate) > hertz
    return power[:, high].sum() / power.sum()


shares = {}
for name in ("pure", "plucked"):
    files = [soundfile.read(path)[0][:128] for path in sorted(Path(f"tones/{name}").glob("*.wav"))]
    drawn = run.sample(32, classes=name, steps=10, seed=1)[:, 0].numpy()
    shares[name] = share_above(drawn)
    print(f"{name:8} data {share_above(np.stack(files)):.2f}, samples {shares[name]:.2f}")
assert shares["pure"] < shares["plucked"]

# %% [markdown]
# ## Longer than a window
#
# Samples can be longer than in training. They are drawn as overlapping windows whose estimates are averaged at every step:

# %%
long = run.sample(1, classes="plucked", size=[400], steps=10, seed=2)
print(f"trained on {run.shape}, drawn {tuple(long.shape[1:])}")

# %%
os.chdir(start)
folder.cleanup()

# %% [markdown]
# ## For real use
#
# Use windows that are as long as the structure that you want, many recordings, and thousands of steps:
#
# ```
# iddpm train series.csv -c examples/signals_pigcvp.yaml --out runs/signals     # windows of 256, classes in the first column
# iddpm train sounds/ -s data.window=4096 -s data.sample_rate=16000 -s diffusion.predicts=v --out runs/sounds
# ```
#
# Where to go next:
#
# - [Formats](../docs/formats.md): sounds, tables, EDF and WFDB recordings, several channels
# - [The run on blood pressure](../docs/runs.md): 1,500 steps on real windows, with spectra, and where the model loses
# - [Conditioning](../docs/conditions.md) on numbers such as age; [restoration](../docs/restoration.md) of gaps
