"""What an open page hears of the runs it shows."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from iddpm.ui.event_stream import EventStream
from iddpm.ui.run_index import RunSignature


class Index(SimpleNamespace):
    """Two runs, one of which trains until it is ended."""

    def __init__(self, tmp_path):
        super().__init__(root=tmp_path, training=True)

    def names(self):
        return ["a", "b"]

    def signature(self, name):
        return RunSignature(training=name == "a" and self.training)


async def heard(stream, runs, active):
    """Return the first message that a page hears after it was made, or None at the third look."""
    looks = []
    compare = stream._compare

    def counted(*given):
        compare(*given)
        looks.append(given)
        if len(looks) == 3:
            stream.tell({"event": "looked"})

    stream._compare = counted
    async for line in stream.watch(runs, active):
        if line.startswith("data: "):
            message = json.loads(line.removeprefix("data: "))
            return None if message["event"] == "looked" else message
    return None


@pytest.mark.parametrize(
    ("runs", "active", "names"),
    [
        (frozenset({"a"}), 1, ["a"]),  # it has ended before the page listened
        (frozenset({"a"}), 0, None),
        (frozenset({"a"}), None, None),
        (frozenset({"b"}), 0, None),
        (None, 1, ["a", "b"]),
        (None, 0, None),
    ],
)
def test_a_page_hears_that_a_training_has_ended_before_it_listened(tmp_path, runs, active, names):
    index = Index(tmp_path)
    index.training = False
    stream = EventStream(index, lambda path: False, pace=0.001)
    found = asyncio.run(heard(stream, runs, active))
    assert found == (names and {"event": "runs", "names": names})


def test_a_page_of_a_training_that_goes_on_hears_its_changes_alone(tmp_path):
    stream = EventStream(Index(tmp_path), lambda path: False, pace=0.001)
    assert asyncio.run(heard(stream, frozenset({"a"}), 1)) is None
    stream = EventStream(Index(tmp_path), lambda path: path.name == "b", pace=0.001)
    assert asyncio.run(heard(stream, frozenset({"b"}), 1)) is None  # it is starting
