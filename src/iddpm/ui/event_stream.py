"""Server-sent events: pages hear when a run or a job has changed, and ask for what they show."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from iddpm.ui.run_index import RunIndex, RunSignature

PACE = 1.0
"""Seconds between looks at the files, while somebody watches."""
ALIVE = 15.0
"""Seconds after which an empty line is sent, so that a connection that is gone is noticed."""
MOST_WATCHERS = 64
"""Open pages; each holds a connection."""
WAITING = 256
"""Messages that may wait for a slow page; it is cut off after that and comes again."""

Message = dict[str, Any]
Seen = tuple[RunSignature, bool]
"""What a look at a run's files found, and whether a process that a page started has not ended."""


class TooManyWatchersError(RuntimeError):
    """Too many pages are open, so another one would receive no updates."""


class Watcher:
    """One open page.

    Attributes:
        runs: names of the runs whose files are watched; None for all, and for new ones.
        active: how many of its runs it shows as training or starting; None once the files were
            looked at, and for a page that does not show it.
        messages: what it is to be sent.
    """

    def __init__(self, runs: frozenset[str] | None, active: int | None = None) -> None:
        self.runs = runs
        self.active = active
        self.messages: asyncio.Queue[Message | None] = asyncio.Queue(WAITING)

    def send(self, message: Message | None) -> None:
        """Queue a message, or end the stream where too many wait."""
        if self.messages.full():
            while not self.messages.empty():
                self.messages.get_nowait()
            message = None
        self.messages.put_nowait(message)


class EventStream:
    """Looks at the files of the watched runs, and tells the pages what has changed.

    Nothing is read while no page is open.

    Args:
        index: the runs.
        starting: says whether a process that a page started in a directory has not ended; it may
            end without a change of the files.
        pace: seconds between two looks.
    """

    def __init__(
        self, index: RunIndex, starting: Callable[[Path], bool], pace: float = PACE
    ) -> None:
        self.index = index
        self.starting = starting
        self.pace = pace
        self._watchers: set[Watcher] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking: asyncio.Task[None] | None = None
        self._ended = False

    def tell(self, message: Message) -> None:
        """Send a message to all pages; called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            with suppress(RuntimeError):  # it is closed meanwhile
                self._loop.call_soon_threadsafe(self._send_all, message)

    def end(self) -> None:
        """End all streams; called in the thread of the server."""
        self._ended = True
        for watcher in list(self._watchers):
            watcher.send(None)

    def watch(self, runs: frozenset[str] | None, active: int | None = None) -> AsyncIterator[str]:
        """Return the events of a page, as the lines of ``text/event-stream``.

        A training may end after a page was made and before its files are looked at for it.

        Args:
            runs: names of the runs that it shows; None for all.
            active: how many of them it shows as training or starting, where it does.

        Raises:
            TooManyWatchersError: too many pages are open.
        """
        if len(self._watchers) >= MOST_WATCHERS or self._ended:
            raise TooManyWatchersError(f"{MOST_WATCHERS} pages are open: close one")
        return self._lines(Watcher(runs, active))

    async def _lines(self, watcher: Watcher) -> AsyncIterator[str]:
        self._watchers.add(watcher)
        self._loop = asyncio.get_running_loop()
        if self._looking is None or self._looking.done():
            self._looking = self._loop.create_task(self._look())
        try:
            yield "retry: 2000\n\n"
            while True:
                try:
                    message = await asyncio.wait_for(watcher.messages.get(), ALIVE)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if message is None:
                    return
                yield f"data: {json.dumps(message)}\n\n"
        finally:
            self._watchers.discard(watcher)

    def _send_all(self, message: Message) -> None:
        for watcher in list(self._watchers):
            watcher.send(message)

    async def _look(self) -> None:
        """Compare the files with the last time, for as long as a page is open."""
        before: dict[str, Seen] = {}
        while self._watchers and not self._ended:
            wanted, watchers = self._wanted(), list(self._watchers)
            now = await asyncio.to_thread(self._signatures, wanted)
            self._compare(before, now)
            for watcher in watchers:
                self._compare_activity(watcher, now)
            before = now
            await asyncio.sleep(self.pace)

    def _signatures(self, names: frozenset[str] | None) -> dict[str, Seen]:
        """Return the signature of each of some runs, or of all."""
        chosen = self.index.names() if names is None else names
        return {
            name: (self.index.signature(name), self.starting(self.index.root / name))
            for name in chosen
        }

    def _wanted(self) -> frozenset[str] | None:
        """Return the names of the watched runs; None for all."""
        names: set[str] = set()
        for watcher in self._watchers:
            if watcher.runs is None:
                return None
            names |= watcher.runs
        return frozenset(names)

    def _compare(self, before: dict[str, Seen], now: dict[str, Seen]) -> None:
        changed = {name for name in now if before.get(name, now[name]) != now[name]}
        came_or_went = set(before) ^ set(now) if before else set()
        for watcher in list(self._watchers):
            mine = changed | came_or_went
            if watcher.runs is not None:
                mine = changed & watcher.runs
            if mine:
                watcher.send({"event": "runs", "names": sorted(mine)})

    def _compare_activity(self, watcher: Watcher, now: dict[str, Seen]) -> None:
        """Tell a page that has just opened if its runs train, or do not, unlike what it shows."""
        shown, watcher.active = watcher.active, None
        if shown is None:
            return
        mine = set(now) if watcher.runs is None else watcher.runs & set(now)
        active = sum(run.training or starting for run, starting in (now[name] for name in mine))
        if active != shown:
            watcher.send({"event": "runs", "names": sorted(mine)})
