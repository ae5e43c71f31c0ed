import json
import multiprocessing
import os

import pytest

from iddpm.data.cache import FACTS, built_once, digest, user_cache
from tests.conftest import wait_until


def test_it_is_built_once_and_again_when_the_facts_change(tmp_path):
    built, said = [], []

    def build(directory):
        built.append(directory)
        (directory / "a").write_text(str(len(built)))

    def get(facts):
        return built_once(tmp_path / "deep/made", facts, build, said.append)

    assert get({"size": (3, 4)}) == tmp_path / "deep/made"
    get({"size": (3, 4)})
    assert (len(built), said) == (1, [])
    get({"size": (3, 5)})
    assert (tmp_path / "deep/made/a").read_text() == "2"
    assert said == [f"{tmp_path}/deep/made was made from other data (size); making it again"]
    (tmp_path / "deep/made" / FACTS).write_text("{")
    get({"size": (3, 5)})
    assert len(built) == 3
    names = sorted(path.name for path in (tmp_path / "deep").iterdir())
    assert names == [".made.lock", "made"]


def test_what_failed_leaves_what_was_there(tmp_path):
    built_once(tmp_path / "made", {"n": 1}, lambda d: (d / "a").write_text("1"), print)

    def fail(directory):
        (directory / "a").write_text("2")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        built_once(tmp_path / "made", {"n": 2}, fail, print)
    assert (tmp_path / "made/a").read_text() == "1"
    assert json.loads((tmp_path / "made" / FACTS).read_text()) == {"n": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".made.lock", "made"]


def _ask(directory, count, counter):
    def build(temporary):
        with open(count, "a", encoding="ascii") as file:
            file.write("x")
        wait_until(lambda: counter.value == 3)

    with counter.get_lock():
        counter.value += 1
    built_once(directory, {"n": 1}, build, print)


def _die(directory):
    built_once(directory, {"n": 1}, lambda temporary: os._exit(9), print)


def test_of_several_processes_one_builds_and_a_dead_builder_is_replaced(tmp_path):
    fork = multiprocessing.get_context("fork")
    dead = fork.Process(target=_die, args=(tmp_path / "made",))
    dead.start()
    dead.join()
    assert dead.exitcode == 9
    arguments = tmp_path / "made", tmp_path / "count", fork.Value("i", 0)
    others = [fork.Process(target=_ask, args=arguments) for _ in range(3)]
    for process in others:
        process.start()
    for process in others:
        process.join()
    assert [process.exitcode for process in others] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".made.lock", "count", "made"]


def test_the_cache_is_where_it_is_said_to_be(tmp_path, monkeypatch):
    assert user_cache().is_dir()  # the tests' own
    monkeypatch.delenv("IDDPM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "iddpm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(user_cache()) == "/home/me/.cache/iddpm"


def test_a_digest_keeps_its_parts_apart():
    assert digest("a", "bc") != digest("ab", "c")
    assert digest("\udcff") == digest("\udcff")  # a file name that is no text
