import json
import os
import subprocess
import sys

import pytest
import torch

from iddpm.runtime.errors import RankLost
from iddpm.runtime.processes import ALONE, Ranks
from tests.conftest import free_port

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import torch
from iddpm.runtime.errors import RankLost
from iddpm.runtime.processes import joined_ranks

what, lost, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
try:
    with joined_ranks("cpu", 86400) as ranks:
        numbers = ranks.largest([ranks.rank, -ranks.rank])
        rows = ranks.joined(torch.arange(2) + 10 * ranks.rank).tolist()
        ranks.limit(4)  # from here on, where all are
        if ranks.rank == lost:
            if what == "hangs":
                (folder / "pid").write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGSTOP)
            elif what == "dies":
                os._exit(9)
            else:
                raise KeyError("a mistake")
        ranks.wait()  # without the limit, for a day
except RankLost as error:
    said = {"said": str(error), "numbers": numbers, "rows": rows}
    (folder / str(ranks.rank)).write_text(json.dumps(said))
    sys.exit(1)
"""
CASES = {
    # rank 0 keeps the store here, where torchrun's agent does otherwise
    "hangs": (3, 2, "rank 2 of 3 has ended or does not answer"),
    "fails": (2, 1, "rank 1 of 2 failed ('a mistake')"),
    "dies": (2, 0, "rank 0 of 2 has ended or does not answer"),
}


def world(rank, count, port):
    """Return the environment that torchrun gives a process."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    return {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        **{name: str(value) for name, value in places.items()},
    }


@pytest.fixture(scope="module")
def survivors(tmp_path_factory):
    """What the ranks that were left said, by case; all cases run at the same time."""
    folders, processes = {}, {}
    for what, (count, lost, _) in CASES.items():
        folders[what] = tmp_path_factory.mktemp(what)
        port = free_port()
        processes[what] = [
            subprocess.Popen(
                [sys.executable, "-c", SCRIPT, what, str(lost), str(folders[what])],
                env=world(rank, count, port),
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        ]
    said = {}
    try:
        for what, (count, lost, _) in CASES.items():
            for rank in set(range(count)) - {lost}:
                _, errors = processes[what][rank].communicate()
                assert processes[what][rank].returncode == 1, errors
                said[what, rank] = json.loads((folders[what] / str(rank)).read_text())
    finally:
        for group in processes.values():
            for process in group:
                process.kill()
                process.wait()
    return said


@pytest.mark.system
@pytest.mark.parametrize("what", CASES)
def test_the_lost_rank_is_named(survivors, what):
    count, lost, sentence = CASES[what]
    for rank in set(range(count)) - {lost}:
        assert survivors[what, rank]["said"] == sentence


@pytest.mark.system
def test_all_hear_the_same(survivors):
    for (what, _), heard in survivors.items():
        count = CASES[what][0]
        assert heard["numbers"] == [count - 1, 0]
        assert heard["rows"] == [10 * rank + k for rank in range(count) for k in range(2)]


def test_shares_are_contiguous_and_cover_all():
    for n in (0, 1, 7, 8):
        for count in (1, 2, 3):
            shares = [range(n)[Ranks(rank, count).share(n)] for rank in range(count)]
            assert [k for share in shares for k in share] == list(range(n))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_errors_of_computation_are_nobody_lost():
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1") as caught, Ranks(0, 2).talking():
        raise error
    assert caught.value is error
    assert not isinstance(error, RankLost)


def test_alone_costs_nothing():
    rows = torch.arange(3)
    assert ALONE.joined(rows) is rows
    assert ALONE.largest([1.0, 2.0]) == [1.0, 2.0]
    ALONE.wait()
    ALONE.limit(1.0)
