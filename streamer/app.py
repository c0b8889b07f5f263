"""The composition root: what exists, and in which order it opens and closes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from streamer import windows
from streamer.admin.history import History
from streamer.admin.server import serve_admin
from streamer.config import Config, SinkOptions, effective, one_secret, organizations_of, resolve_moment, show_duration
from streamer.delivery import Delivery
from streamer.enrichment import open_enrichment
from streamer.errors import ConfigError, RetryableError
from streamer.formats import make_format
from streamer.intake import Allowance, Intake
from streamer.journal.sqlite import SqliteJournal, open_journal
from streamer.model import Seq, SinkName, SourceName
from streamer.ports import SinkContext
from streamer.retention import Retention
from streamer.retry import HOLD_S
from streamer.routing import compile_redaction, compile_where
from streamer.sinks import SINKS
from streamer.sources import SOURCES
from streamer.stop import Stop
from streamer.supervise import stop_on_signals, supervise
from streamer.telemetry import Telemetry


@dataclass
class Outcome:
    """How a run ended."""

    left_behind: list[str] = field(default_factory=list)
    """With `once`: sinks that did not get everything, and why."""
    refused: list[str] = field(default_factory=list)
    """With `once`: why a listing could not be read; an operator has to act."""


class Daemon:
    """Everything that one configuration makes, opened."""

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
        self.deliveries: list[Delivery] = []
        self.history = History(telemetry, stop)
        self._intakes_running = 0

    async def open(self, stack: AsyncExitStack, *, delivering: bool = True) -> None:
        self.enrichment = await stack.enter_async_context(open_enrichment(self.config, self.telemetry, self.stop))
        for name, options in self.config.sinks.items() if delivering else ():
            await self._open_sink(stack, SinkName(name), options)
        for source_name, source_options in self.config.sources.items():
            kind = SOURCES[source_options.type]  # type: ignore[attr-defined]  # the registry's models carry their type
            source = await stack.enter_async_context(kind.open(SourceName(source_name), source_options, self.telemetry))
            allowance = Allowance(source_options.concurrency)
            self.intakes += [
                Intake(
                    source=source,
                    listing=listing,
                    options=source_options,
                    journal=self.journal,
                    enrichers=self.enrichment.enrichers,
                    ready=self.enrichment.ready,
                    telemetry=self.telemetry,
                    stop=self.stop,
                    allowance=allowance,
                    once=self.once,
                    max_wait_s=self._slowest_s,
                )
                for listing in source.listings
            ]
        self._intakes_running = len(self.intakes)

    async def _open_sink(self, stack: AsyncExitStack, name: SinkName, options: SinkOptions) -> None:
        type_name: str = options.type  # type: ignore[attr-defined]  # the registry's models carry their type
        position = await self.journal.position(name, options.start, options.was)
        context = SinkContext(
            name=name,
            position=position,
            folder=self.config.state,
            journal=self.journal.id,
            set_aside=lambda count, reason: self.telemetry.sink_set_aside(name, count, reason),
        )
        sink = await stack.enter_async_context(SINKS[type_name].open(options, context))
        self._warn_of_reach(name, options)
        secret = one_secret(f"sinks.{name}.redact_key", options.redact_key, options.redact_key_file)
        self.deliveries.append(
            Delivery(
                name=name,
                kind=type_name,
                sink=sink,
                acked=position.acked,
                journal=self.journal,
                format=make_format(options.format, organizations_of(self.config), options.ocsf_version, options.event),
                where=compile_where(options.where),
                redact=compile_redaction(options.redact, secret.reveal().encode() if secret else None, f"sinks.{name}"),
                batch=options.batch,
                telemetry=self.telemetry,
                stop=self.stop,
                caught_up=(lambda: self._intakes_running == 0) if self.once else None,
                hold_s=self._slowest_s,
            )
        )
        await self._pass_gap(self.deliveries[-1])

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

    # --- jobs --------------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[str, Callable[[], Awaitable[None]]]:
        jobs = {f"intake {i.source.name}/{i.listing}": self._intake(i) for i in self.intakes}
        return jobs | {f"delivery {d.name}": self._delivery(d) for d in self.deliveries}

    def _intake(self, intake: Intake) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            try:
                await intake.run()
            except ConfigError as error:
                # Only with `once`: the other listings go on.
                self.outcome.refused += error.problems
            finally:
                self._intakes_running -= 1

        return run

    def _delivery(self, delivery: Delivery) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            try:
                await delivery.run()
            except (ConfigError, RetryableError) as error:
                self.outcome.left_behind.append(str(error))

        return run

    def background(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {"retention": self._retention().run, "history": self.history.run, **self.enrichment.jobs}

    def _retention(self) -> Retention:
        reach = max(windows.longest_reach_s(s.longest_overlap_s, s.recheck) for s in self.config.sources.values())
        return Retention(
            journal=self.journal,
            sinks=[d.row for d in self.deliveries],
            keep_s=self.config.journal.keep,
            remember_s=max(2 * reach, self.config.journal.keep + reach),
            max_bytes=int(self.config.journal.max_size),
            telemetry=self.telemetry,
            stop=self.stop,
        )


@asynccontextmanager
async def open_daemon(
    config: Config, telemetry: Telemetry, stop: Stop, *, once: bool = False, slowest_s: float = HOLD_S
) -> AsyncIterator[Daemon]:
    """Open in order, close in reverse. ConfigError for whatever an operator has to mend first.

    `slowest_s`: the longest wait between two tries of whatever fails.
    """
    async with AsyncExitStack() as stack:
        journal = await stack.enter_async_context(
            open_journal(config.state, int(config.journal.max_size), telemetry.clock)
        )
        daemon = Daemon(config, telemetry, stop, journal, once=once, slowest_s=slowest_s)
        await daemon.open(stack)
        if config.admin is not None:
            daemon.admin_port = await stack.enter_async_context(
                serve_admin(config.admin, telemetry, journal, daemon.history, lambda: effective(config), stop)
            )
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


async def run(config: Config, telemetry: Telemetry, stop: Stop, *, once: bool = False) -> Outcome:
    """The daemon, until a signal or `stop`; with `once` until everything up to now is everywhere."""
    with stop_on_signals(stop, telemetry):
        async with open_daemon(config, telemetry, stop, once=once) as daemon:
            telemetry.started(len(config.sources), len(config.sinks))
            await supervise(daemon.jobs(), daemon.background(), stop, telemetry)
    telemetry.stopped()
    return daemon.outcome
