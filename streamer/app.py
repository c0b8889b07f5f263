"""The composition root: what exists, and in which order it opens and closes."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from streamer import logs, windows
from streamer.admin.history import History
from streamer.admin.server import serve_admin
from streamer.config import (
    AdminOptions,
    Config,
    SinkOptions,
    SourceOptions,
    StandbyOptions,
    content_mark,
    effective,
    named_files,
    one_secret,
    organizations_of,
    own_sources,
    replica_of,
    resolve_moment,
    show_duration,
)
from streamer.delivery import Delivery
from streamer.enrichment import open_enrichment
from streamer.errors import ConfigError, RetryableError, verdicts
from streamer.formats import make_format
from streamer.intake import Intake
from streamer.journal.opening import FolderInUse, lock
from streamer.journal.sqlite import SqliteJournal, open_journal
from streamer.lease import open_lease
from streamer.model import Seq, SinkName, SourceName
from streamer.ports import SinkContext
from streamer.range_walk import Allowance
from streamer.reload import FOLLOWED, Reloading
from streamer.retention import Retention
from streamer.retry import HOLD_S
from streamer.routing import compile_redaction, compile_where
from streamer.sinks import SINKS
from streamer.sources import SOURCES
from streamer.stop import Stop
from streamer.supervise import Job, Opening, Part, Work, beside, stop_on_signals, supervise
from streamer.telemetry import Telemetry

TURN_EVERY_S = 0.2
"""So often a standby looks whether the state folder is free."""
ROOM_EVERY_S = 2.0
"""So often it is tried whether a full disk has room for the journal."""
ENDLESS = ("retention", "admin")
"""Parts that no run waits for."""


@dataclass
class Outcome:
    """How a run ended."""

    left_behind: list[str] = field(default_factory=list)
    """With `once`: sinks that did not get everything and listings that could not be walked again, and why."""
    refused: list[str] = field(default_factory=list)
    """With `once`: why a listing could not be read; an operator has to act."""


class Daemon:
    """Everything that one configuration makes, opened. Sources, sinks, the admin port and retention are parts of their own: another
    configuration opens anew what it changes, and nothing else."""

    def __init__(
        self,
        config: Config,
        telemetry: Telemetry,
        stop: Stop,
        journal: SqliteJournal,
        *,
        once: bool,
        slowest_s: float = HOLD_S,
    ) -> None:
        self.config, self.telemetry, self.stop, self.journal, self.once = config, telemetry, stop, journal, once
        self._slowest_s = slowest_s
        self.outcome = Outcome()
        self.admin_port: int | None = None
        self.intakes: list[Intake] = []
        self.more: asyncio.Queue[tuple[str, Job]] = asyncio.Queue()
        """Parts that another configuration adds while the others run."""
        self._history = History(telemetry, stop)
        self._parts: dict[str, Part] = {}
        self._intakes_running = 0

    async def open(self, stack: AsyncExitStack, *, delivering: bool = True) -> None:
        self.enrichment = await stack.enter_async_context(open_enrichment(self.config, self.telemetry, self.stop))
        wanted = self._openings(self.config)
        for name in wanted if delivering else [name for name in wanted if name.startswith("source ")]:
            part = self._parts[name] = self._part(name)
            stack.push_async_callback(part.close)
            try:
                await part.open(wanted[name])
            except RetryableError:  # A full disk, as a rule. It is opened when it runs; until then it shows as held.
                if self.once:
                    raise
        self._stack = stack

    # --- becoming another --------------------------------------------------------------------------------------------

    async def become(self, config: Config) -> list[str]:
        """Make it the one in force; what changes, in words. ConfigError leaves everything as it was.

        Returns before the parts have changed: each closes when it has ended what it has under way, and none waits for another.
        """
        own_sources(config)
        changes = ["enrich"] if await self.enrichment.become(config) else []
        before, self.config = self.config, config
        if config.log != before.log:
            logs.configure(config.log.level, config.log.format)
        self.journal.max_bytes = int(config.journal.max_size)
        changes += [
            name for name in ("log", "journal", "reload", "shard") if getattr(config, name) != getattr(before, name)
        ]
        wanted = self._openings(config)
        for name in [*wanted, *(name for name in self._parts if name not in wanted)]:
            change = self._become(name, wanted.get(name))
            if change is not None and name != "retention":
                changes.append(f"{change} {name}")
        return changes

    def _become(self, name: str, opening: Opening | None) -> str | None:
        part = self._parts.get(name)
        if part is None or (part.wanted is None and opening is not None):
            return self._add(name, opening)
        if opening is None:
            if part.wanted is None:
                return None
            part.become(None)
            return "removed"
        if part.wanted is not None and part.wanted.print == opening.print:
            return None
        part.become(opening)
        return "changed"

    def _add(self, name: str, opening: Opening | None) -> str:
        part = self._parts.get(name)
        if part is None:
            part = self._parts[name] = self._part(name)
            self._stack.push_async_callback(part.close)
            self.more.put_nowait((name, self._running(name, part)))
        part.become(opening)
        return "added"

    def _part(self, name: str) -> Part:
        return Part(self.stop, lambda error: self._held(name, error), self._slowest_s)

    def _running(self, name: str, part: Part) -> Job:
        """Until it ends; what is not configured any more is forgotten."""

        async def run() -> None:
            await part.run()
            if part.wanted is None:
                del self._parts[name]
                kind, _, who = name.partition(" ")
                if kind == "sink":
                    self.telemetry.sink_closed(SinkName(who))
                elif kind == "source":
                    self.telemetry.source_closed(who)

        return run

    def _held(self, name: str, error: str) -> None:
        """A part that cannot be opened while the daemon runs shows as one that is held."""
        kind, _, who = name.partition(" ")
        if kind == "sink" and who in self.config.sinks:
            options = self.config.sinks[who]
            row = self.telemetry.sink_opened(SinkName(who), _type_of(options), self._acked(who))
            self.telemetry.sink_held(row, error)
        elif kind == "source" and who in self.config.sources:
            source = self.config.sources[who]
            for listing in source.listings:
                at = self.telemetry.listing_opened(SourceName(who), listing, source.poll_interval)
                self.telemetry.listing_held(at, error)
        else:
            self.telemetry.part_held(name, error)

    def _acked(self, sink: str) -> int:
        row = self.telemetry.status.sinks.get(sink)
        return row.acked if row is not None else 0

    # --- parts -------------------------------------------------------------------------------------------------------

    def _openings(self, config: Config) -> dict[str, Opening]:
        """Every part by its name, in the order in which they open at the start. A part is opened anew when what is printed here differs."""
        organizations = organizations_of(config)
        openings = {}
        for name, sink in config.sinks.items():
            mark = (sink, organizations, _content(sink))
            openings[f"sink {name}"] = Opening(mark, partial(self._open_sink, SinkName(name), sink, organizations))
        for name, source in own_sources(config).items():
            seen = (source, config.enrich.directory, _content(source))
            openings[f"source {name}"] = Opening(seen, partial(self._open_source, SourceName(name), source))
        kept = (list(config.sinks), config.sources, config.journal)
        self.telemetry.status.configuration.sources = len(own_sources(config))
        openings["retention"] = Opening(kept, partial(self._open_retention, config))
        if config.admin is not None:
            openings["admin"] = Opening(config.admin, partial(self._open_admin, config.admin))
        return openings

    async def _open_source(self, name: SourceName, options: SourceOptions, stack: AsyncExitStack, stop: Stop) -> Work:
        names = await stack.enter_async_context(self.enrichment.names(name, options, stop))
        source = await stack.enter_async_context(SOURCES[_type_of(options)].open(name, options, self.telemetry))
        self.telemetry.source_closed(name, kept=source.listings)
        allowance = Allowance(options.concurrency)
        intakes = [
            Intake(
                source=source,
                listing=listing,
                options=options,
                journal=self.journal,
                enrichers=self.enrichment.enrichers,
                ready=names.ready,
                telemetry=self.telemetry,
                stop=stop,
                allowance=allowance,
                once=self.once,
                max_wait_s=self._slowest_s,
            )
            for listing in source.listings
        ]
        self.intakes = [*(one for one in self.intakes if one.source.name != name), *intakes]
        self._intakes_running += len(intakes)
        jobs = {f"intake {name}/{one.listing}": self._intake(one) for one in intakes}
        return Work(jobs, {f"directory {name}": names.refresh.run} if names.refresh is not None else {})

    async def _open_sink(
        self, name: SinkName, options: SinkOptions, organizations: dict[str, str], stack: AsyncExitStack, stop: Stop
    ) -> Work:
        if (former := self._parts.get(f"sink {options.was}")) is not None:
            # It still writes to its place, which is ours to go on at.
            await former.ended.wait()
        position = await self.journal.position(name, options.start, options.was)
        context = SinkContext(
            name=name,
            position=position,
            folder=self.config.state,
            replica=replica_of(self.config),
            journal=self.journal.id,
            set_aside=lambda count, reason: self.telemetry.sink_set_aside(name, count, reason),
        )
        sink = await stack.enter_async_context(SINKS[_type_of(options)].open(options, context))
        self._warn_of_reach(name, options)
        secret = one_secret(f"sinks.{name}.redact_key", options.redact_key, options.redact_key_file)
        delivery = Delivery(
            name=name,
            kind=_type_of(options),
            sink=sink,
            acked=position.acked,
            journal=self.journal,
            format=make_format(options.format, organizations, options.ocsf_version, options.event),
            where=compile_where(options.where),
            redact=compile_redaction(options.redact, secret.reveal().encode() if secret else None, f"sinks.{name}"),
            batch=options.batch,
            telemetry=self.telemetry,
            stop=stop,
            caught_up=(lambda: self._intakes_running == 0) if self.once else None,
            hold_s=self._slowest_s,
            looks_inside=SINKS[_type_of(options)].looks_inside,
        )
        await self._pass_gap(delivery)
        return Work({f"delivery {name}": self._delivery(delivery)})

    async def _pass_gap(self, delivery: Delivery) -> None:
        """A sink that comes back after it was not configured has missed what was pruned in between: said, and passed over."""
        before = Seq((await self.journal.size()).oldest - 1)
        if before > delivery.acked:
            self.telemetry.records_gone(delivery.row, before - delivery.acked)
            delivery.acked = before

    def _warn_of_reach(self, name: SinkName, options: SinkOptions) -> None:
        """A start-up warning where history reaches further back than the sink takes."""
        limit_s, now = options.oldest_accepted_s, self.telemetry.clock()
        reach_s = max(now - resolve_moment(source.start, now) for source in self.config.sources.values())
        if limit_s is not None and options.start == "earliest" and reach_s > limit_s:
            self.telemetry.reaches_too_far(name, show_duration(reach_s), show_duration(limit_s))

    async def _open_retention(self, config: Config, _: AsyncExitStack, stop: Stop) -> Work:
        reach = max(windows.longest_reach_s(s.longest_overlap_s, s.recheck) for s in config.sources.values())
        retention = Retention(
            journal=self.journal,
            sinks=[SinkName(name) for name in config.sinks],
            keep_s=config.journal.keep,
            remember_s=max(2 * reach, config.journal.keep + reach),
            max_bytes=int(config.journal.max_size),
            telemetry=self.telemetry,
            stop=stop,
        )
        return Work({"retention": retention.run})

    async def _open_admin(self, options: AdminOptions, stack: AsyncExitStack, stop: Stop) -> Work:
        serving = serve_admin(
            options, self.telemetry, self.journal, self._history, lambda: effective(self.config), stop
        )
        self.admin_port = await stack.enter_async_context(serving)
        return Work({"admin": stop.wait})

    # --- jobs --------------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[str, Job]:
        """With `once`, the program ends when they have."""
        return {name: self._running(name, part) for name, part in self._parts.items() if name not in ENDLESS}

    def background(self) -> dict[str, Job]:
        parts = {name: self._running(name, part) for name, part in self._parts.items() if name in ENDLESS}
        return {**parts, "history": self._history.run, **self.enrichment.jobs}

    def _intake(self, intake: Intake) -> Job:
        async def run() -> None:
            try:
                await intake.run()
            except RetryableError as error:
                self.outcome.left_behind.append(str(error))
            except (ConfigError, ExceptionGroup) as error:
                # Only with `once`: the other listings go on. Where walkers were refused, all were alike.
                refused = next(iter(verdicts(error)), None)
                if not isinstance(refused, ConfigError):
                    raise
                self.outcome.refused += refused.problems
            finally:
                self._intakes_running -= 1

        return run

    def _delivery(self, delivery: Delivery) -> Job:
        async def run() -> None:
            try:
                await delivery.run()
            except (ConfigError, RetryableError) as error:
                self.outcome.left_behind.append(str(error))

        return run


def _type_of(options: SourceOptions | SinkOptions) -> str:
    kind: str = options.type  # type: ignore[union-attr]  # the registry's models carry their type
    return kind


def _content(options: SourceOptions | SinkOptions) -> str:
    """Of the files that are read when it opens."""
    return content_mark(path for place, path in named_files(options) if place not in FOLLOWED)


@asynccontextmanager
async def open_daemon(
    config: Config,
    telemetry: Telemetry,
    stop: Stop,
    *,
    once: bool = False,
    slowest_s: float = HOLD_S,
    journal: SqliteJournal | None = None,
) -> AsyncIterator[Daemon]:
    """Open in order, close in reverse. ConfigError for whatever an operator has to mend first.

    `slowest_s`: the longest wait between two tries of whatever fails. `journal`: if it is open already.
    """
    async with AsyncExitStack() as stack:
        if journal is None:
            opening = open_journal(config.state, int(config.journal.max_size), telemetry.clock)
            journal = await stack.enter_async_context(opening)
        daemon = Daemon(config, telemetry, stop, journal, once=once, slowest_s=slowest_s)
        await daemon.open(stack)
        yield daemon


async def repair(config: Config, telemetry: Telemetry) -> None:
    """Walk again what an operator asked for, into the journal; deliver nothing. ConfigError while a daemon runs: it does so itself."""
    stop = Stop()
    async with AsyncExitStack() as stack:
        journal = await stack.enter_async_context(
            open_journal(config.state, int(config.journal.max_size), telemetry.clock)
        )
        daemon = Daemon(config, telemetry, stop, journal, once=True)
        await daemon.open(stack, delivering=False)
        for intake in daemon.intakes:
            await intake.repair()


async def run(
    config: Config, telemetry: Telemetry, stop: Stop, *, once: bool = False, reloading: Reloading | None = None
) -> Outcome:
    """The daemon, until a signal or `stop`; with `once` until everything up to now is everywhere. `reloading`: what looks for another
    configuration meanwhile."""
    async with AsyncExitStack() as stack:
        stack.enter_context(stop_on_signals(stop, telemetry, reloading.ask if reloading is not None else None))
        locked = None
        if config.standby is not None and not once:
            locked = await _wait_for_turn(config, config.standby, telemetry, stop, stack)
            if locked is None:
                telemetry.stopped()
                return Outcome()
            if reloading is not None:
                reloading.ask()  # It may have waited long, and the file is another now.
        journal = None
        if not once:
            waits = reloading.ask if reloading is not None else None
            journal = await _wait_for_room(config, telemetry, stop, stack, locked, waits)
            if journal is None:
                telemetry.stopped()
                return Outcome()
        async with open_daemon(config, telemetry, stop, once=once, journal=journal) as daemon:
            telemetry.leads()
            telemetry.started(len(own_sources(config)), len(config.sinks), replica_of(config))
            background = daemon.background()
            if reloading is not None:
                background["reload"] = partial(reloading.run, lambda: daemon.config, daemon.become)
            more = None if once else daemon.more
            await supervise(daemon.jobs(), background, stop, telemetry, more=more)
    telemetry.stopped()
    return daemon.outcome


async def _wait_for_turn(
    config: Config, standby: StandbyOptions, telemetry: Telemetry, stop: Stop, stack: AsyncExitStack
) -> int | None:
    """Until nobody else is at work: the lock of the state folder, and with a lease that too, which is kept as long as the stack is open.
    None when the program stops first."""
    telemetry.stands_by()
    async with _answering(config, telemetry, stop):
        if standby.lease is not None:
            me = f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}"
            lease = await stack.enter_async_context(open_lease(standby.lease, me, telemetry))
            if not await lease.acquire(stop):
                return None
            stack.push_async_callback(lease.release)
            await stack.enter_async_context(beside(lease.keep, "lease", lease.end))
        while not stop.is_set():
            try:
                return lock(config.state)
            except FolderInUse:
                await stop.sleep(TURN_EVERY_S)
            except RetryableError as error:
                telemetry.journal_unopened(str(error))
                await stop.sleep(ROOM_EVERY_S)
    return None


async def _wait_for_room(
    config: Config,
    telemetry: Telemetry,
    stop: Stop,
    stack: AsyncExitStack,
    locked: int | None,
    waits: Callable[[], None] | None,
) -> SqliteJournal | None:
    """The journal, opened on the stack as soon as the disk has room for it. None when the program stops first. `waits` is called if it has not."""
    async with AsyncExitStack() as waiting:
        answers = False
        while not stop.is_set():
            try:
                if locked is None:
                    locked = lock(config.state)
                opening = open_journal(config.state, int(config.journal.max_size), telemetry.clock, locked)
                journal = await stack.enter_async_context(opening)
            except RetryableError as error:
                telemetry.journal_unopened(str(error))
                if not answers:
                    await waiting.enter_async_context(_answering(config, telemetry, stop))
                    answers = True
                    if waits is not None:
                        waits()
                await stop.sleep(ROOM_EVERY_S)
            else:
                telemetry.journal_unopened(None)
                return journal
    return None


@asynccontextmanager
async def _answering(config: Config, telemetry: Telemetry, stop: Stop) -> AsyncIterator[None]:
    """The admin port of a process that has no journal yet: no page."""
    async with AsyncExitStack() as stack:
        if config.admin is not None:
            options = config.admin.model_copy(update={"page": False})
            serving = serve_admin(options, telemetry, None, History(telemetry, stop), str, stop)
            await stack.enter_async_context(serving)
        yield
