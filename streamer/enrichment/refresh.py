"""The loop that keeps the names of one organization fresh: every list at the start and every `refresh`, failed ones in between.

Names only add up, so nothing has to be read as a whole: each page is taught when it comes, and a list that cannot be
read costs its own names and no others. The tail never waits for this, but for the warm-up.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from streamer.enrich.directory import Directory
from streamer.errors import ConfigError, RetryableError
from streamer.ports import DirectoryPage, DirectorySource
from streamer.retry import Backoff
from streamer.stop import Stop
from streamer.telemetry import Telemetry

READERS = 4
"""Requests at once: the tail shares the organization's rate limit with us."""
LANES = 16
"""Requests at once of all directories together: each answer takes some milliseconds of the loop, which the tail needs too."""
TRIES = 4
"""Of one page in one load; what fails so often is tried again later."""
FIRST_RETRY_S = 15.0
MAX_PAUSES = 30
"""So often in a row a page may be answered by a request to wait."""
LONGEST_PAUSE_S = 3600.0
FIRST_GAP_S = 0.02
LONGEST_GAP_S = 10.0
GAP_SHRINKS = 0.995
MAX_PAGES = 5000
"""Of one list; more than the directory keeps."""
REFUSALS = 3
"""So many projects may refuse a list before the others are spared the question."""


class Reading(NamedTuple):
    """One list that is to be read: the organization's or one project's."""

    list: str
    project: str | None


class Failure(NamedTuple):
    error: str
    refused: bool
    """An operator has to act: asking again soon is of no use."""


@dataclass
class Pace:
    """The time between two requests, shared by all readers: as short as upstream bears.

    It doubles when upstream asks to wait, and shrinks again with every answer.
    """

    gap_s: float = 0.0
    _next_at: float = 0.0

    def turn(self, now: float) -> float:
        """0: ask now, the turn is yours. Else the seconds after which to come again."""
        if now < self._next_at:
            return self._next_at - now
        self._next_at = now + self.gap_s
        return 0.0

    def asked_to_wait(self, now: float, seconds: float) -> None:
        until = now + min(seconds, LONGEST_PAUSE_S)
        if until > self._next_at + self.gap_s:  # once for all requests that were under way together
            self.gap_s = min(max(self.gap_s * 2, FIRST_GAP_S), LONGEST_GAP_S)
        self._next_at = max(self._next_at, until)

    def answered(self) -> None:
        self.gap_s *= GAP_SHRINKS


class DirectoryRefresh:
    """One source."""

    def __init__(
        self,
        source: DirectorySource,
        directory: Directory,
        refresh_s: float,
        telemetry: Telemetry,
        stop: Stop,
        phase: float = 1.0,
        lanes: asyncio.Semaphore | None = None,
    ) -> None:
        """`phase`: the share of `refresh_s` after which the second load begins, so that organizations that start together do not load
        together for ever. `lanes`: shared by the directories of all organizations, so that a hundred of them leave the loop to the tail."""
        self._source, self._directory, self._refresh_s = source, directory, refresh_s
        self._telemetry, self._stop, self._phase = telemetry, stop, phase
        self._lanes = lanes or asyncio.Semaphore(LANES)
        self._row = telemetry.directory_opened(source.name)
        self._pace = Pace()
        self._queue = deque[Reading]()
        self._below: list[Reading] = []
        """What comes to light while the queue is worked off."""
        self._asked = set[Reading]()
        self._read = Counter[str]()
        """Whole lists of this load, by name."""
        self._failures: dict[Reading, Failure] = {}
        """Of the last full load and the tries since; what was read in the end is not here."""
        self._requests = 0
        self.loaded = False
        """The first load has ended, however it went."""

    async def run(self) -> None:
        """Until stop."""
        share = self._phase
        while not self._stop.is_set():
            due, share = time.monotonic() + self._refresh_s * share, 1.0
            self._failures.clear()
            await self._load([Reading(name, None) for name in self._source.lists])
            self.loaded = True
            await self._retry_until(due)

    async def _retry_until(self, due: float) -> None:
        """Failed lists again, at a growing distance; of those that were refused only the next full load asks."""
        backoff = Backoff(FIRST_RETRY_S, longest_s=self._refresh_s)
        while (left := due - time.monotonic()) > 0 and not self._stop.is_set():
            again = [reading for reading, failure in self._failures.items() if not failure.refused]
            wait = backoff.next(jitter=1.0) if again else left
            if await self._stop.sleep(min(wait, left)):
                return
            if wait < left:
                await self._load(again)

    async def _load(self, readings: Sequence[Reading]) -> None:
        """Read these lists; then, where one of them showed projects, the lists of these."""
        began, self._requests = time.monotonic(), 0
        self._read.clear()
        self._asked = set(readings)
        self._below = list(readings)
        while self._below and not self._stop.is_set():
            self._queue.extend(self._below)
            self._below.clear()
            async with asyncio.TaskGroup() as tasks:
                for number in range(min(READERS, len(self._queue))):
                    tasks.create_task(self._reader(), name=f"directory reader {number}")
        self._queue.clear()
        self._report(time.monotonic() - began)

    def _report(self, seconds: float) -> None:
        self._telemetry.directory_counted(self._row, self._directory.counts(self._source.name))
        if self._read:
            self._telemetry.directory_loaded(self._row, self._requests, seconds)
        for name in (*self._source.lists, *self._source.project_lists):
            errors = [failure.error for reading, failure in self._failures.items() if reading.list == name]
            if errors:
                self._telemetry.directory_list_failed(self._row, name, len(errors), errors[0])
            elif self._read[name]:
                self._telemetry.directory_list_read(self._row, name)

    async def _reader(self) -> None:
        while self._queue and not self._stop.is_set():
            reading = self._queue.popleft()
            if self._is_refused(reading.list):
                self._failures[reading] = Failure("refused in other projects", refused=True)
                continue
            try:
                await self._walk(reading)
            except ConfigError as error:
                self._failures[reading] = Failure(str(error), refused=True)
            except RetryableError as error:
                self._failures[reading] = Failure(str(error), refused=False)

    def _is_refused(self, name: str) -> bool:
        """A scope that is missing is missing in all projects: no need to ask hundreds of times."""
        if self._read[name]:
            return False
        return sum(failure.refused for reading, failure in self._failures.items() if reading.list == name) >= REFUSALS

    async def _walk(self, reading: Reading) -> None:
        """Page by page to the end. RetryableError or ConfigError where that is not reached."""
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            at = int(self._source.now())
            page = await self._page(reading, cursor)
            if page is None:
                return
            for said in page.sightings:
                self._directory.teach(self._source.name, said, at)
            below = (Reading(name, project) for project in page.projects for name in self._source.project_lists)
            fresh = [one for one in below if one not in self._asked]
            self._asked.update(fresh)
            self._below.extend(fresh)
            cursor = page.next
            if cursor is None:
                self._read[reading.list] += 1
                self._failures.pop(reading, None)
                return
        raise RetryableError(f"sources.{self._source.name} (list {reading.list}): more than {MAX_PAGES} pages")

    async def _page(self, reading: Reading, cursor: str | None) -> DirectoryPage | None:
        """One page, asked for as often as it is reasonable. None when stopped."""
        backoff, pauses = Backoff(), 0
        while not await self._wait_for_turn():
            self._requests += 1
            try:
                async with self._lanes:
                    page = await self._source.read(reading.list, reading.project, cursor)
            except RetryableError as error:
                if error.retry_after is not None:
                    self._pace.asked_to_wait(time.monotonic(), error.retry_after)
                    pauses += 1
                    if pauses == MAX_PAUSES:
                        raise
                    continue
                wait = backoff.next()
                if backoff.attempts == TRIES:
                    raise
                await self._stop.sleep(wait)
            else:
                self._pace.answered()
                return page
        return None

    async def _wait_for_turn(self) -> bool:
        """True when the program stops."""
        while wait := self._pace.turn(time.monotonic()):
            if await self._stop.sleep(wait):
                return True
        return self._stop.is_set()
