"""What every sink owes, as one suite that each sink's tests reuse.

    class TestWebhookContract(ServerSinkContract):  # SinkContract, where the other side cannot refuse
        @pytest.fixture
        async def side(self, tmp_path: Path) -> AsyncIterator[OtherSide]:
            async with receiver(…) as server:
                yield WebhookSide(server, tmp_path)

The sink is driven through its port alone, with batches of real envelopes. `OtherSide` is all that a sink's tests write: how
the sink is configured, how the other side answers, and what arrived there.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import TypeAdapter

from streamer.errors import ConfigError, PermanentError, Repositioned, RetryableError
from streamer.journal.sqlite import open_journal
from streamer.model import Batch, Bookmark, Message, Progress, Seq, SinkName
from streamer.ports import Sink, SinkContext, SinkPosition
from streamer.sinks import SINKS
from tests import warm
from tests.records import SOURCE, batch, entries, event_id

Arrived = tuple[str, bytes]
"""An event's id and its bytes, as the other side has them."""

Answer = Literal["take", "later", "never", "who", "gone"]
"""take: everything is taken. later: nothing is, for now (429, 503, a full disk). never: the event `POISON` can never be taken, nor a
batch that holds it (400, 413). who: we are not let in (401, 403). gone: nobody is there."""

NAME = SinkName("out")
POISON = 3
"""The number of the event that the answer `never` is about."""
JOURNAL = "0123456789abcdef"


class OtherSide:
    """The place a sink writes to, and how the sink is configured for it."""

    kind: ClassVar[str]
    """Of the registry."""
    guarantee: ClassVar[Literal["exactly once", "at least once"]] = "at least once"
    answers: ClassVar[frozenset[Answer]] = frozenset({"take"})
    """Those that it can be told to give."""

    def __init__(self, folder: Path) -> None:
        """`folder`: the sink's state folder."""
        self.folder = folder

    def options(self) -> Mapping[str, Any]:
        """The sink's section of the configuration, without `type`; plain values, as YAML has them."""
        raise NotImplementedError

    async def say(self, answer: Answer) -> None:
        """From now on, until told otherwise. Only what `answers` names is asked for."""
        assert answer == "take"

    async def arrived(self) -> list[Arrived]:
        """What the other side took, in the order in which it took it; an event that it took twice stands there twice."""
        raise NotImplementedError

    async def shown(self) -> list[Arrived] | None:
        """What the other side was shown in all tries, taken or not; None where that cannot be seen."""
        return None

    def open(self, position: SinkPosition) -> AbstractAsyncContextManager[Sink]:
        """The sink as the program would open it."""
        kind = SINKS[self.kind]
        options: Any = TypeAdapter(kind.options).validate_python(dict(self.options()))
        context = SinkContext(name=NAME, position=position, journal=JOURNAL, folder=self.folder)
        return kind.open(options, context)

    def child_stdout(self) -> int:
        """Where the standard output of a child process goes; only the stdout sink cares."""
        return subprocess.DEVNULL


RETRIES = 100


class Pump:
    """The least that a delivery loop is: it keeps the position as a journal would, and follows verdicts."""

    def __init__(self, side: OtherSide) -> None:
        self.side = side
        self.position = SinkPosition(Seq(0), None, NAME)
        self.dead: list[Message] = []
        self._sink: Sink | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Pump"]:
        """The sink is opened at the position, as after a start."""
        async with self.side.open(self.position) as sink:
            self._sink = sink
            yield self

    async def try_write(self, batch: Batch) -> Bookmark | None:
        """One write; the turns of the road are followed, every verdict is the caller's."""
        assert self._sink is not None
        for _ in range(5):
            try:
                bookmark = await self._sink.write(batch)
            except Repositioned as moved:
                self.keep(self.position.acked, moved.bookmark)
                continue
            assert bookmark is None or json.loads(json.dumps(dict(bookmark))) == bookmark, "a bookmark is plain JSON"
            return bookmark
        raise AssertionError("the sink repositions itself for ever")

    def keep(self, acked: Seq, bookmark: Bookmark | None) -> None:
        kept = self.position.bookmark if bookmark is None else json.loads(json.dumps(dict(bookmark)))
        self.position = SinkPosition(acked, kept, NAME)

    async def write(self, batch: Batch) -> None:
        """Write and acknowledge; a server that is not ready yet is asked again, as the delivery loop does."""
        for _ in range(RETRIES):
            try:
                bookmark = await self.try_write(batch)
            except RetryableError:
                await asyncio.sleep(0.05)
                continue
            self.keep(batch.last_seq, bookmark)
            return
        self.keep(batch.last_seq, await self.try_write(batch))

    async def write_patiently(self, batch: Batch) -> None:
        """As the delivery loop does: what a refusal names is cut out, else the batch is halved until the bad one is alone."""
        parts = [batch.messages]
        while parts:
            part = parts.pop(0)
            try:
                await self.write(Batch(part))
            except PermanentError as error:
                if len(part) == 1:
                    self.dead += part
                    continue
                cut = min(error.rejected) if error.rejected else len(part) // 2
                pieces = (
                    [part[:cut], part[cut : cut + 1], part[cut + 1 :]] if error.rejected else [part[:cut], part[cut:]]
                )
                parts[:0] = [piece for piece in pieces if piece]


def expected(*batches: Batch) -> list[Arrived]:
    return [(m.record.envelope.id, m.body) for b in batches for m in b.messages]


def first_copies(arrived: Sequence[Arrived]) -> list[Arrived]:
    """Each event where it stands first."""
    return list({event: (event, body) for event, body in reversed(arrived)}.values())[::-1]


class SinkContract:
    """Subclass it as `Test…` with a fixture `side`."""

    def check_arrived(self, side: OtherSide, arrived: Sequence[Arrived], wanted: Sequence[Arrived]) -> None:
        """After a crash: everything is there, in order; more than once only where the sink promises no better."""
        assert first_copies(arrived) == wanted
        if side.guarantee == "exactly once":
            assert len(arrived) == len(wanted), "an event arrived twice"

    async def test_delivers_in_order(self, side: OtherSide) -> None:
        """Goal: every event arrives once, whole, in order; method: batches of several sizes, then what arrived."""
        batches = [batch(1), batch(30, first=2), batch(9, first=32)]
        async with Pump(side).running() as pump:
            for each in batches:
                await pump.write(each)
        assert await side.arrived() == expected(*batches)

    async def test_goes_on_where_it_stopped(self, side: OtherSide) -> None:
        """Goal: a restart costs nothing; method: stop, open again at the position that was kept, write on."""
        pump = Pump(side)
        batches = [batch(5, first=1 + 5 * n) for n in range(3)]
        for each in batches:
            async with pump.running():
                await pump.write(each)
        assert await side.arrived() == expected(*batches)

    async def test_a_batch_that_was_not_acknowledged_is_written_again(self, side: OtherSide) -> None:
        """Goal: a crash between write and ack keeps the stated guarantee; method: the ack is lost twice, the sink opened at the old
        position, and the batch written again as a part of a larger and of a smaller one."""
        pump = Pump(side)
        async with pump.running():
            await pump.write(batch(4))
        for again in (batch(6, first=5), batch(3, first=5)):
            async with pump.running():
                await pump.try_write(again)
        async with pump.running():
            await pump.write(batch(8, first=5))
            await pump.write(batch(2, first=13))
        self.check_arrived(side, await side.arrived(), expected(batch(14)))

    async def test_the_first_batch_of_all_is_not_acknowledged(self, side: OtherSide) -> None:
        """As above, where nothing at all was ever acknowledged."""
        pump = Pump(side)
        async with pump.running():
            await pump.try_write(batch(6))
        async with pump.running():
            await pump.write(batch(3))
            await pump.write(batch(5, first=4))
        self.check_arrived(side, await side.arrived(), expected(batch(8)))

    @pytest.mark.crash
    async def test_killed_and_started_again(self, side: OtherSide) -> None:
        """Goal: SIGKILL keeps the stated guarantee; method: the real delivery loop and journal in a process that is killed between
        a write and its ack, twice, and at a place that chance chooses, twice; then once through."""
        count = 150
        async with open_journal(side.folder, 1 << 30) as journal:
            await journal.position(NAME, "earliest")
            await journal.append(SOURCE, "organization", entries(count), Progress(1))
        chance = random.Random(7)
        for kill in ({"die_at_write": 1}, {"acks": 1 + chance.randrange(3)}, {"die_at_write": 3}, {"acks": 1}, {}):
            await _child(side, kill)
        self.check_arrived(side, await side.arrived(), expected(batch(count)))


class ServerSinkContract(SinkContract):
    """As well for a sink whose other side answers: a server."""

    def needs(self, side: OtherSide, answer: Answer) -> None:
        if answer not in side.answers:
            pytest.skip(f"the other side of {side.kind} cannot answer {answer!r}")

    async def test_later_is_retryable_and_the_next_try_repeats_the_same(self, side: OtherSide) -> None:
        """Goal: a refusal for now loses nothing and changes nothing; method: refused twice, then taken."""
        self.needs(side, "later")
        first, second = batch(4), batch(4, first=5)
        async with Pump(side).running() as pump:
            await pump.write(first)
            await side.say("later")
            for _ in range(2):
                with pytest.raises(RetryableError) as refused:
                    await pump.try_write(second)
                assert len(str(refused.value).splitlines()) == 1
            await side.say("take")
            await pump.write(second)
        self.check_arrived(side, await side.arrived(), expected(first, second))
        shown = await side.shown()
        assert shown is None or set(shown) == set(expected(first, second)), "a retry has the same bytes"

    async def test_never_is_permanent_and_all_others_arrive(self, side: OtherSide) -> None:
        """Goal: the delivery loop can find the one bad record; method: a batch with one, cut as the loop cuts it."""
        self.needs(side, "never")
        await side.say("never")
        async with Pump(side).running() as pump:
            with pytest.raises(PermanentError) as refused:
                await pump.try_write(batch(1, first=POISON))
            assert refused.value.rejected is None or list(refused.value.rejected) == [0]
            await pump.write_patiently(batch(6))
        assert [m.record.envelope.id for m in pump.dead] == [event_id(POISON)]
        good = [a for a in expected(batch(6)) if a[0] != event_id(POISON)]
        assert first_copies(await side.arrived()) == good

    async def test_not_let_in_is_for_an_operator_and_heals(self, side: OtherSide) -> None:
        """Goal: a 401 blames no record; method: refused, then let in, without opening again."""
        self.needs(side, "who")
        async with Pump(side).running() as pump:
            await side.say("who")
            for _ in range(2):
                with pytest.raises(ConfigError) as refused:
                    await pump.try_write(batch(4))
                assert f"{NAME}" in str(refused.value), "the sentence names the sink"
            await side.say("take")
            await pump.write(batch(4))
        assert await side.arrived() == expected(batch(4))

    async def test_opening_needs_nobody_there(self, side: OtherSide) -> None:
        """Goal: an unreachable server is no crash loop; method: open and write with nobody there, then with somebody."""
        self.needs(side, "gone")
        await side.say("gone")
        async with Pump(side).running() as pump:
            with pytest.raises(RetryableError):
                await pump.try_write(batch(2))
            await side.say("take")
            await pump.write(batch(2))
        assert first_copies(await side.arrived()) == expected(batch(2))


async def _child(side: OtherSide, kill: Mapping[str, int]) -> None:
    """`die_at_write`: it kills itself between that write and its ack. `acks`: killed from here after so many. Neither: it ends by itself."""
    job = {"kind": side.kind, "options": dict(side.options()), "folder": str(side.folder), **kill}
    with tempfile.TemporaryFile() as said:
        child = warm.start("tests.sink_child", json.dumps(job, default=str), stdout=side.child_stdout(), stderr=said)
        wanted = b"acked\n" * kill.get("acks", 0)

        def has_said_so() -> bool:
            return os.stat(said.fileno()).st_size >= len(wanted)

        try:
            async with asyncio.timeout(60):
                while wanted and not has_said_so() and child.poll() is None:
                    await asyncio.sleep(0.002)
                if wanted:
                    child.kill()
                while child.poll() is None:
                    await asyncio.sleep(0.005)
        finally:
            child.kill()
        written = os.pread(said.fileno(), 1 << 20, 0)
    assert written.startswith(wanted), written
    assert child.returncode == (-signal.SIGKILL if kill else 0), written.decode()
