"""The checker itself: it accepts right numbers and refuses each kind of wrong one."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from iddpm.interop.openai import build_published

CHECK = Path(__file__).with_name("check.py")
SHARED = Path(__file__).parents[3] / "shared" / "parity"

spec = importlib.util.spec_from_file_location("parity_check", CHECK)
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)

NETWORK = {
    "case": 0,
    "source": "id.UNetModel",
    "kwargs": {
        "in_channels": 1,
        "model_channels": 32,
        "out_channels": 2,
        "num_res_blocks": 1,
        "attention_resolutions": [2],
        "channel_mult": [1, 1],
        "num_classes": 3,
        "dims": 1,
    },
    "weights_seed": 5,
}
PROCESSES = [
    {
        "case": 0,
        "schedule": "cosine",
        "steps": 30,
        "respacing": "5",
        "predicts": "eps",
        "variance": "learned_range",
        "loss": "rescaled_mse",
        "rescale_timesteps": True,
        "sampling_steps": 5,
    },
    {
        "case": 1,
        "schedule": "linear",
        "steps": 200,
        "respacing": "",
        "predicts": "prev",
        "variance": "fixed_large",
        "loss": "kl",
        "rescale_timesteps": False,
        "sampling_steps": 200,
    },
]


def described(state):
    """Parameters, tensors and hash as the data's README defines them."""
    lines = "\n".join(sorted(f"{name} {tuple(value.shape)}" for name, value in state.items()))
    return {
        "parameters": sum(value.numel() for value in state.values()),
        "tensors": len(state),
        "names_sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }


def network_case():
    network = build_published(NETWORK["source"], NETWORK["kwargs"]).eval()
    state = network.state_dict()
    generator = torch.Generator().manual_seed(NETWORK["weights_seed"])
    for name in sorted(state):
        value = 0.08 * torch.randn(state[name].shape, generator=generator)
        norm = len(value.shape) == 1 and name.endswith("weight")
        state[name].copy_(value + 1 if norm else value)
    x, t, y = torch.randn(2, 1, 8), torch.tensor([3, 700]), torch.tensor([2, 0])
    with torch.no_grad():
        out = network(x, t, y)
    tensors = {"0/x": x, "0/t": t, "0/y": y, "0/out": out}
    return {**NETWORK, **described(state)}, tensors


def process_case(entry):
    n, shape = entry["sampling_steps"], (3, 1, 4)
    tensors = {
        "x0": torch.randint(0, 256, shape).double() * 2 / 255 - 1,
        "t": torch.tensor([0, 1, n - 1]),
        "noise": torch.randn(shape).double(),
        "step_noise": torch.randn(shape).double(),
    }
    if n <= 100:
        tensors["x_T"] = torch.randn(shape).double()
        tensors["loop_noise"] = torch.randn(n, *shape).double()
    tensors.update(check.process_quantities(entry, dict(tensors)))
    # Written out here, so that these do not come from the code that is being compared.
    if entry["schedule"] == "linear":
        betas = torch.arange(n).double() / (n - 1) * (0.1 - 5e-4) + 5e-4
        tensors["betas"] = betas
        tensors["alphas_cumprod"] = torch.exp(torch.cumsum(torch.log1p(-betas), 0))
    return {f"{entry['case']}/{name}": value.contiguous() for name, value in tensors.items()}


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """A directory in the format of the data, with right numbers."""
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("parity")
    entry, tensors = network_case()
    save_file(tensors, directory / "network.safetensors")
    processes = {}
    for process in PROCESSES:
        processes.update(process_case(process))
    save_file(processes, directory / "process.safetensors")
    lists = {
        "network.json": [entry],
        "process.json": PROCESSES,
        "respacing.json": [
            {"steps": 100, "respacing": "ddim7", "kept": [0, 15, 30, 45, 60, 75, 90]},
            {"steps": 10, "respacing": "20", "kept": None},
        ],
        "published.json": [
            {
                "model": "cifar10",
                "family": "improved-diffusion",
                "flags": {"image_size": 32, "num_res_blocks": 3, "learn_sigma": True},
                "parameters": 52_546_438,
                "tensors": 446,
                "names_sha256": "001b621871f3fa9dac5ac1be2f81be607e30a5a105d2319630cad7d16a217a44",
            }
        ],
    }
    for name, entries in lists.items():
        (directory / name).write_text(json.dumps(entries), encoding="utf-8")
    return directory


@pytest.fixture
def directory(right, tmp_path):
    """A copy that a test may spoil."""
    for path in right.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the checker on a directory: exit status, its failed lines and its last line."""

    def run(directory):
        monkeypatch.setattr(sys, "argv", ["check.py", str(directory)])
        status = check.main()
        lines = capsys.readouterr().out.splitlines()
        return status, [line for line in lines[:-1] if "FAILED" in line], lines

    return run


def change(path, name, value):
    tensors = load_file(path)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value(tensors[name]) if callable(value) else value
    save_file(tensors, path)


def edit(path, index, **changes):
    entries = json.loads(path.read_text())
    entries[index].update(changes)
    path.write_text(json.dumps(entries))


def test_right_numbers_pass(directory, run):
    status, failed, lines = run(directory)
    assert status == 0, failed
    assert not failed
    assert lines[-1].startswith("6 cases, ")
    assert float(lines[-1].split()[-1]) < 5e-6
    assert sum(line.startswith("process/0 ") for line in lines) == 27
    (directory / "published.json").unlink()  # the only file that may be absent
    assert run(directory)[0] == 0


def test_the_exit_status_is_that_of_the_process(directory):
    def status():
        command = [sys.executable, str(CHECK), str(directory)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert status() == 0
    change(directory / "process.safetensors", "0/ddpm_loop", lambda given: given * 1.0001)
    assert status() == 1


def names_of_outputs():
    with_loop = [
        *("betas", "alphas_cumprod", "posterior_variance", "x_t", "loss/loss", "loss/mse"),
        *("loss/vb", "q_posterior/mean", "p/raw/mean", "p/raw/log_variance", "p/raw/pred_xstart"),
        *("p/clip/mean", "p/clip/log_variance", "p/clip/pred_xstart", "ddpm_step"),
        *("ddim_step_eta0", "ddim_step_eta0.7", "ddim_reverse_step", "ddim_loop_eta0", "ddpm_loop"),
        *("bpd/total_bpd", "bpd/prior_bpd", "bpd/vb", "bpd/xstart_mse", "bpd/mse"),
    ]
    return [("process", f"0/{name}") for name in with_loop] + [("network", "0/out")]


def off(by):
    """Move the largest number of a tensor by this much of itself."""

    def spoil(given):
        given = given.clone()
        largest = given.abs().flatten().argmax()
        given.view(-1)[largest] += by * max(float(given.abs().max()), 1e-3)
        return given

    return spoil


@pytest.mark.parametrize(("file", "name"), names_of_outputs())
def test_one_number_that_is_off_fails_and_is_named(directory, run, file, name):
    change(directory / f"{file}.safetensors", name, off(5e-5))
    status, failed, _ = run(directory)
    assert status == 1
    assert failed
    quantity = name.split("/", 1)[1]
    assert all(f" {quantity} " in line for line in failed)
    assert all(line.startswith(f"{file}/0") for line in failed)


def test_errors_within_the_tolerance_pass(directory, run):
    for file, name in names_of_outputs():
        change(directory / f"{file}.safetensors", name, off(1e-5))
    status, failed, lines = run(directory)
    assert status == 0, failed
    assert float(lines[-1].split()[-1]) == pytest.approx(1e-5, rel=0.2)


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("process", "0/betas", lambda given: given[:-1]),
        ("process", "0/x_t", lambda given: given[None]),  # would broadcast
        ("process", "0/x_t", lambda given: given * float("nan")),
        ("process", "0/timestep_map", lambda given: given + 1),
        ("process", "0/ddim_step_eta0", None),
        ("process", "1/ddpm_step", None),
        ("process", "0/x0", None),
        ("process", "0/x_T", None),
        ("process", "0/loop_noise", None),
        ("process", "1/something_new", torch.zeros(2)),
        ("network", "0/out", None),
        ("network", "0/x", None),
        ("network", "0/y", None),
    ],
)
def test_a_tensor_that_is_missing_misshapen_or_unknown_fails(directory, run, file, name, value):
    change(directory / f"{file}.safetensors", name, value)
    status, failed, lines = run(directory)
    assert status == 1
    assert any(line.startswith(f"{file}/{name[0]}") for line in failed)
    assert lines[-1].startswith("6 cases")  # the others were still checked


@pytest.mark.parametrize("name", check.FILES)
def test_a_missing_file_fails_and_is_named(directory, run, name):
    (directory / name).unlink()
    status, _, lines = run(directory)
    assert status == 1
    assert name in lines[0]


@pytest.mark.parametrize("name", [*check.FILES, "published.json"])
def test_a_spoiled_file_fails_with_a_sentence(directory, run, name):
    (directory / name).write_bytes(b"\x00 not what it should be")
    status, _, lines = run(directory)
    assert status == 1
    assert any("cannot read" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "changes", "quantity"),
    [
        ("network.json", {"names_sha256": "0" * 64}, "names_sha256"),
        ("network.json", {"parameters": 1}, "parameters"),
        ("network.json", {"tensors": 1}, "tensors"),
        ("network.json", {"weights_seed": 6}, "out float32"),
        ("network.json", {"source": "id.Unknown"}, "stopped"),
        ("published.json", {"names_sha256": "0" * 64}, "names_sha256"),
        ("published.json", {"parameters": 52_546_437}, "parameters"),
        ("process.json", {"sampling_steps": 6}, "sampling_steps"),
        ("process.json", {"schedule": "linear", "steps": 31}, "betas"),
        ("process.json", {"rescale_timesteps": False}, "p/raw/mean"),
        ("respacing.json", {"kept": [0, 15, 30, 45, 60, 75, 91]}, "100 steps by 'ddim7'"),
        ("respacing.json", {"kept": None}, "100 steps by 'ddim7'"),
    ],
)
def test_a_wrong_entry_fails_and_is_named(directory, run, name, changes, quantity):
    edit(directory / name, 0, **changes)
    status, failed, _ = run(directory)
    assert status == 1
    assert any(f" {quantity} " in line for line in failed), failed


def test_nothing_to_check_is_not_a_success(directory, run):
    for path in directory.glob("*.json"):
        path.write_text("[]")
    status, _, lines = run(directory)
    assert status == 1
    assert lines[-1].startswith("0 cases")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the published numbers are not at {SHARED}")
def test_we_agree_with_the_published_implementations(run):
    status, failed, lines = run(SHARED)
    assert not failed
    assert status == 0
    assert int(lines[-1].split()[0]) >= 30
