"""Every file of a run directory, damaged in every way: reported or harmless, never believed."""

import json
import shutil

import numpy as np
import pytest

import iddpm
from iddpm.cli.main import run as command
from iddpm.training.checkpoints.checkpoint_files import file_sha256
from iddpm.training.monitoring.terminal import SilentReporter

NEWEST = "checkpoints/step_00000004"
COMMANDS = ("info", "sample", "averaged", "resume")
DAMAGES = ("flip", "cut", "empty", "remove", "edit")
FOR_PEOPLE = ("any", "harmless", "harmless", "harmless")
"""``info`` shows what they say, and no number that is drawn or learned depends on them."""
TABLE = {
    "config.yaml": ("refused", "refused", "refused", "refused"),
    f"{NEWEST}/network.safetensors": ("any", "harmless", "harmless", "reported"),
    f"{NEWEST}/optimizer.safetensors": ("any", "harmless", "harmless", "reported"),
    f"{NEWEST}/ema_0.99.safetensors": ("any", "reported", "harmless", "reported"),
    f"{NEWEST}/state.json": ("reported", "reported", "harmless", "reported"),
    f"{NEWEST}/settings.json": ("reported", "reported", "harmless", "reported"),
    f"{NEWEST}/checksums.json": ("any", "any", "harmless", "reported"),
    "checkpoints/step_00000002/network.safetensors": FOR_PEOPLE,
    "averages/step_00000004.safetensors": ("any", "harmless", "reported", "any"),
    "averages/step_00000002.safetensors": ("any", "harmless", "reported", "any"),
    "model.safetensors": FOR_PEOPLE,
    "latest": FOR_PEOPLE,
    "best": FOR_PEOPLE,
    "data.json": ("any", "harmless", "harmless", "any"),
    "log.jsonl": ("any", "any", "any", "any"),
    "log.csv": FOR_PEOPLE,
    "exit.json": FOR_PEOPLE,
    "lock": FOR_PEOPLE,
    "samples/step_00000004.png": FOR_PEOPLE,
}
"""What ``COMMANDS`` do with each file: refused in one sentence; reported (by an error or a warning,
or in the output of ``info``); harmless: the same bits as with the whole file."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run, and what undisturbed commands make of it."""
    from tests.conftest import TINY, images

    folder = tmp_path_factory.mktemp("files")
    np.savez(folder / "x.npz", arr_0=images(), arr_1=np.arange(60) % 3)
    iddpm.train(
        folder / "x.npz",
        out=folder / "run",
        settings=[
            *TINY,
            "training.steps=4",
            "training.save_every=2",
            "training.log_every=1",
            "training.validate_every=2",
            "training.preview_every=4",
            "training.ema_rates=[0.99]",
            "training.posthoc_ema.every=1",
            "data.held_out=0.2",
        ],
        reporter=SilentReporter(),
    )
    whole = {}
    for name in COMMANDS:
        shutil.copytree(folder / "run", folder / "copy")
        assert command(words(name, folder / "copy")) == 0
        whole[name] = result(name, folder / "copy")
        shutil.rmtree(folder / "copy")
        shutil.rmtree(folder / "out", ignore_errors=True)
    return folder, whole


def words(name, run):
    out = str(run.parent / "out")
    sample = ["sample", str(run), "-n", "2", "--steps", "2", "--npz", "--out", out]
    return {
        "info": ["info", str(run)],
        "sample": sample,
        "averaged": [*sample, "--ema-length", "0.07"],
        "resume": ["train", "--resume", "--out", str(run), "--steps", "6"],
    }[name]


def result(name, run):
    """Return what a command made, to be compared by its bits."""
    if name == "info":
        return ""
    if name != "resume":
        return file_sha256(next((run.parent / "out").glob("*.npz")))
    last = run / "checkpoints/step_00000006"
    assert (run / "latest").read_text() == f"{last.name}\n"
    state = json.loads((last / "state.json").read_text())
    files = [file_sha256(path) for path in sorted(last.glob("*.safetensors"))]
    return files, state["step"], json.loads((last / "settings.json").read_text())["settings"]


def damage(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "flip":
        content[len(content) // 2 & ~3] ^= 8
    elif kind == "cut":
        del content[len(content) // 2 :]
    elif kind == "empty":
        content.clear()
    elif path.name == "config.yaml":
        content = content.replace(b"predicts: eps", b"predicts: x0")
    else:  # a digit, or the last byte
        place = max((content.rfind(d) for d in b"123456789"), default=-1)
        place = place if path.suffix != ".safetensors" and place >= 0 else -1
        content[place] = 48 if content[place] != 48 else 49
    path.unlink()
    if kind != "remove":
        path.write_bytes(content)


def outcome(name, run, whole, capsys):
    """Run a command on a damaged run and return what became of it."""
    capsys.readouterr()
    status = command(words(name, run))
    out, err = capsys.readouterr()
    said = [line for line in err.splitlines() if line.startswith(("error:", "warning:"))]
    assert "Traceback" not in err
    if status:
        assert status == 2, err
        assert [line for line in said if line.startswith("error:")], err
        assert not (run.parent / "out").exists()
        return "refused"
    if name == "info":
        return "reported" if said or "damaged" in out or "missing" in out else "harmless"
    made = result(name, run)
    if name == "resume" or not said:  # reported, it may draw from an older checkpoint
        assert made == whole[name]
    return "reported" if said else "harmless"


def test_the_table_names_every_kind_of_file(world):
    folder, _ = world
    named = {*TABLE, "averages/step_00000001.safetensors", "averages/step_00000003.safetensors"}
    for path in (folder / "run").rglob("*"):
        name = str(path.relative_to(folder / "run")).replace("step_00000002/", "step_00000004/")
        assert path.is_dir() or name in named or "/power_" in name, name


def found_with_damage(world, place, capsys, name, files, kind):
    """Damage files in a copy of the run and return what became of a command."""
    folder, whole = world
    # Each in its own place, since Python shows the same warning once.
    copy = shutil.copytree(folder / "run", place / "copy")
    for file in files:
        damage(copy / file, kind)
    found = outcome(name, copy, whole, capsys)
    shutil.rmtree(place)
    return found


@pytest.mark.parametrize("file", TABLE)
def test_damage_is_reported(world, tmp_path, capsys, file):
    wrong = []
    for kind in DAMAGES:
        for name, wanted in zip(COMMANDS, TABLE[file], strict=True):
            if wanted == "harmless":
                continue
            found = found_with_damage(
                world, tmp_path / f"{kind}-{name}", capsys, name, [file], kind
            )
            good = {"reported": ("reported", "refused"), "any": ("reported", "refused", "harmless")}
            if found not in good.get(wanted, (wanted,)):
                wrong.append((kind, name, found))
    assert not wrong


@pytest.mark.parametrize("name", COMMANDS[1:])
def test_damage_of_what_a_command_does_not_read_is_harmless(world, tmp_path, capsys, name):
    """All such files at once: the same bits as with whole ones show that none was believed."""
    files = [file for file, wanted in TABLE.items() if wanted[COMMANDS.index(name)] == "harmless"]
    assert len(files) >= 8
    for kind in DAMAGES:
        found = found_with_damage(world, tmp_path / kind, capsys, name, files, kind)
        assert found == "harmless", (kind, found)


def test_missing_snapshots_are_named(world, tmp_path, capsys):
    copy = shutil.copytree(world[0] / "run", tmp_path / "run")
    (copy / "averages/step_00000004.safetensors").unlink()
    (copy / "averages/step_00000001.safetensors").unlink()
    for name in ("info", "averaged", "resume"):
        assert command(words(name, copy)) == 0
        out, err = capsys.readouterr()
        assert "step_00000001, step_00000004" in (out if name == "info" else err), name


def test_a_run_whose_seals_are_all_damaged_says_so(world, tmp_path, capsys):
    copy = shutil.copytree(world[0] / "run", tmp_path / "run")
    for path in copy.glob("checkpoints/*/settings.json"):
        path.write_text("")
    (copy / "model.safetensors").unlink()
    assert command(words("info", copy)) == 0
    out, err = capsys.readouterr()
    assert "step_00000002 (damaged: settings.json has changed since)" in out
    assert "cannot be compared" in err
    assert command(words("averaged", copy)) == 0
    assert "cannot be compared" in capsys.readouterr().err
    assert command(words("sample", copy)) == 2


def test_a_chosen_checkpoint_is_held_against_its_own_settings(world, tmp_path):
    copy = shutil.copytree(world[0] / "run", tmp_path / "run")
    older = copy / "checkpoints/step_00000002"
    text = (older / "settings.json").read_text().replace('predicts": "eps"', 'predicts": "v"')
    (older / "settings.json").write_text(text)
    sums = json.loads((older / "checksums.json").read_text())
    sums["settings.json"] = file_sha256(older / "settings.json")
    (older / "checksums.json").write_text(json.dumps(sums))
    iddpm.load(copy)
    with pytest.raises(ValueError, match=r"predicts=eps.*trained with diffusion\.predicts=v"):
        iddpm.load(copy, checkpoint=2)


@pytest.mark.parametrize("text", ["", "{}\n", "model:\n  channels: 1\n"])
def test_settings_that_are_not_resolved_are_refused(world, tmp_path, text):
    copy = shutil.copytree(world[0] / "run", tmp_path / "run")
    (copy / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"does not have the settings of a run: .*size"):
        iddpm.load(copy)


NO_RECORDS = (
    b"{}",
    b"null",
    b"\xff\xfe",
    b'{"step": "four"}',
    b'{"step": 1e3}',
    b'{"step": true}',
    b"[" * 5000,
    b"3",
    b'{"step": 4, "loss": "low"}',
    b'{"step": 4, "ranks": {}}',
)


def test_lines_of_the_log_that_are_no_records_are_left_out(world, tmp_path, capsys):
    copy = shutil.copytree(world[0] / "run", tmp_path / "run")
    log, lines = copy / "log.jsonl", b"\n".join(NO_RECORDS) + b"\n"
    log.write_bytes(lines + log.read_bytes() + lines)
    for name, reported in (("info", 1), ("resume", 1), ("info", 0)):
        assert command(words(name, copy)) == 0
        err = " ".join(capsys.readouterr().err.split())
        assert err.count(f"has {2 * len(NO_RECORDS)} lines without a record") >= reported, err
        if name == "resume":
            steps = [json.loads(text)["step"] for text in log.read_text().splitlines()]
            assert steps == [1, 2, 3, 4, 5, 6]


def test_latest_is_mended_after_a_kill_between_commit_and_pointing(world, tmp_path):
    copy = shutil.copytree(world[0] / "run", tmp_path / "run")
    (copy / "latest").write_text("step_00000002\n")
    assert command(["train", "--resume", "--out", str(copy)]) == 0  # it was finished already
    assert (copy / "latest").read_text() == "step_00000004\n"
