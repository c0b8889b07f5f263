"""The whole file as a model: what every source and sink has, and everything else.

Options that belong to one source or sink live beside it; `config_model` is told them.
"""

import re
from collections.abc import Mapping
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Literal, Self, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    Field,
    SecretStr,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from streamer.config.secret import one_secret
from streamer.config.selection import Redaction, Where
from streamer.config.values import AUTO_OVERLAP_S, Duration, Moment, Overlap, Strict, Url, Wait
from streamer.model import LISTINGS, Listing, SinkName


class AdminOptions(Strict):
    """Metrics, health, status page."""

    listen: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$")] = "127.0.0.1:9464"
    """HOST:PORT. Keep it on loopback or in a private network."""
    page: bool = True
    """The status page at `/`, which shows events."""
    token: SecretStr | None = None
    """What the page and `/status` ask for; needed for the page unless `listen` is a loopback address."""
    token_file: Path | None = None

    @field_validator("listen")
    @classmethod
    def _is_a_port(cls, value: str) -> str:
        if int(value.rpartition(":")[2]) > 65_535:
            raise ValueError(f"{value} has no port; the highest is 65535")
        return value

    @model_validator(mode="after")
    def _shows_events_to_nobody_unknown(self) -> Self:
        secret = one_secret("token", self.token, self.token_file)
        if self.page and secret is None and not self.loopback:
            raise ValueError(
                f"{self.listen} can be reached from elsewhere and the page shows events; set token_file, or page: false"
            )
        return self

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def loopback(self) -> bool:
        """Only this machine reaches it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])


class LogOptions(Strict):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """From which level on lines are written, to stderr."""
    format: Literal["auto", "console", "json"] = "auto"
    """`auto`: for people on a terminal, else one JSON object a line."""


class Recheck(Strict):
    """Walk what lies up to `window` back again, `every` so often, to find events that appeared late."""

    every: Duration
    """How often."""
    window: Duration
    """How far back, to `overlap` ago."""


class Canary(Strict):
    """A harmless event that somebody causes on purpose: when it does not show up, the way from there to here is broken."""

    type: str
    """An event type."""
    every: Duration = 86_400.0
    """It is overdue after that."""


class SourceOptions(Strict):
    """What every source takes; the adapter's own options extend it."""

    organization_id: Annotated[str, Field(pattern=r"^[\w.-]{1,128}$")] | None = None
    """Checked against what upstream says it is, where it says so; formats write it, because no event carries it."""
    listings: Annotated[list[Listing], Field(min_length=1)] = list(LISTINGS)
    """Which lists to read. Tenant events are a list of their own; each fails and recovers alone."""
    start: Moment = 30 * 86_400.0
    """Where a listing that was never read begins: `now`, `beginning`, a time (RFC 3339) or a duration back."""
    poll_interval: Duration = 10.0
    """How often a listing that has caught up is asked."""
    overlap: Overlap = 300.0
    """What every poll reads again before the watermark; `auto` widens and narrows by itself between 1m and 1h."""
    """What every poll reads again, for events that appear with a delay."""
    recheck: list[Recheck] = [
        Recheck.model_construct(every=900.0, window=7200.0),
        Recheck.model_construct(every=21_600.0, window=172_800.0),
    ]
    """What is walked again on a schedule, for events that appear later than that."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    """Requests at once while catching up, for all listings of the source together."""
    canary: Canary | None = None
    """Not ready while it is overdue."""

    @property
    def longest_overlap_s(self) -> float:
        return AUTO_OVERLAP_S[1] if self.overlap == "auto" else float(self.overlap)


class BatchOptions(Strict):
    """A batch is closed by whichever comes first."""

    events: Annotated[int, Field(ge=1, le=50_000)] = 500
    """At most so many events."""
    bytes: Annotated[ByteSize, Field(ge=1024, le=256 << 20)] = ByteSize(1 << 20)
    """At most so many bytes, as they stand in the journal."""
    wait: Wait = 1.0
    """How long the first event waits for company."""


FormatName = Literal["envelope", "raw", "ocsf", "ecs", "cef", "leef"]
OcsfVersion = Literal["1.8.0", "1.9.0"]


class SinkOptions(Strict):
    """What every sink takes; the adapter's own options extend it and narrow `type` to its name."""

    format: FormatName = "envelope"
    """What an event looks like there."""
    ocsf_version: OcsfVersion = "1.8.0"
    """Of the format `ocsf`; 1.9.0 has classes of its own for users and roles."""
    event: Literal["keep", "string", "drop"] = "keep"
    """`event` of an envelope as an object, as a JSON string (for stores that cannot hold keys with dots), or left out.
    Formats other than `envelope` have no such key."""
    where: Where = Where()
    """Which events it takes; all if nothing is set."""
    redact: list[Redaction] = []
    """What of each event it may not see."""
    redact_key: SecretStr | None = None
    """For `with: hash`: the same value has the same hash as long as the key is the same."""
    redact_key_file: Path | None = None
    batch: BatchOptions = BatchOptions()
    """When a batch is closed."""
    start: Literal["earliest", "latest"] = "earliest"
    """Of a sink that is new to this journal: everything that is in it, or what comes from now on."""
    was: SinkName | None = None
    """The name that it had before: it goes on at that one's place, with its dead letters. May stay when that is done."""

    @model_validator(mode="after")
    def _can_hash(self) -> "SinkOptions":
        key = one_secret("redact_key", self.redact_key, self.redact_key_file)
        if key is None and any(rule.with_ == "hash" for rule in self.redact):
            raise ValueError("redact: hash needs a key; give redact_key or redact_key_file")
        return self

    @property
    def oldest_accepted_s(self) -> float | None:
        """The age in seconds beyond which the store refuses or redates an event; None: it takes any. For a warning at start where a backfill reaches
        further back."""
        return None


class DirectoryOptions(Strict):
    """Names from the Admin API."""

    refresh: Duration = 900.0
    """How often the lists are read again."""
    warmup: Duration = 10.0
    """How long what the first walks bring waits for the first load."""


def _network(text: str) -> str:
    """In its usual spelling. ValueError for what is no CIDR range."""
    try:
        return str(ip_network(text))
    except ValueError:
        pass
    try:
        mend = f"write {ip_network(text, strict=False)} for the range, or the address alone"
    except ValueError:
        mend = "write an address and a prefix length, like 203.0.113.0/24 or 2001:db8::/32"
    raise ValueError(f"{text!r} is not a CIDR range; {mend}")


class EnrichOptions(Strict):
    directory: DirectoryOptions | None = DirectoryOptions()
    networks: dict[str, list[str]] = {}
    """Name to CIDR ranges; the most specific range that holds an address names it."""
    geoip: Path | None = None
    """A MaxMind file (.mmdb), read again when it is replaced."""
    rules: Path | None = None
    """A rule file instead of the built-in rules."""

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        names: dict[str, str] = {}
        for name, texts in value.items():
            for text in texts:
                network = _network(text)
                if names.setdefault(network, name) != name:
                    raise ValueError(f"{network} stands under {names[network]} and {name}; keep one")
        return value


class JournalOptions(Strict):
    max_size: Annotated[ByteSize, Field(ge=1 << 20)] = ByteSize(10 << 30)
    """When it is full, intake waits (upstream keeps the events) and says so; nothing is dropped."""
    keep: Duration = 7 * 86_400.0
    """How far back replay reaches once everything is delivered."""


class ShardOptions(Strict):
    """Several replicas share the sources; each has its own state folder and its own sinks. Every source is read by one of them."""

    count: Annotated[int, Field(ge=1, le=1000)]
    """So many replicas there are."""
    index: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Which of them this one is, from 0; `auto`: the number at the end of the host's name, as a StatefulSet gives it to its pods."""


def _whole_seconds(seconds: float) -> float:
    if seconds < 1 or seconds != int(seconds):
        raise ValueError("must be whole seconds, at least 1s, because a Lease has no others")
    return seconds


class LeaseOptions(Strict):
    """A Lease of Kubernetes (coordination.k8s.io/v1). Whoever holds it works; whoever cannot renew it in time ends."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
    """Of the Lease; it is made if it is not there."""
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")] | None = None
    """null: that of the pod."""
    duration: Annotated[Duration, AfterValidator(_whole_seconds)] = 15.0
    """After so long without a renewal another one takes it; two thirds of it after his last renewal the holder has ended."""
    server: Url | None = None
    """The API server; null: the cluster's own."""
    token_file: Path | None = None
    """null: the token of the pod's service account."""
    ca_file: Path | None = None
    """Who signs the API server's certificate (PEM); null: the cluster's own."""


class StandbyOptions(Strict):
    """A second process with the same configuration waits until it is its turn, instead of ending with 78."""

    lease: LeaseOptions | None = None
    """Who holds it works. null: the lock of the state folder decides alone, on a machine or a volume that both see."""


class ReloadOptions(Strict):
    """A configuration that changes is taken while the daemon runs."""

    watch: Duration | None = 5.0
    """How often this file and the files that it names are looked at, symbolic links followed; a change is taken at the second look that
    finds it. null: only SIGHUP makes it look."""


class Config(Strict):
    """The whole file; `sources` and `sinks` hold the adapters' own option models."""

    state: Path = Path("/var/lib/streamer")
    """A folder of this daemon alone: the journal and its lock. It holds events, so it is made with mode 0700."""
    admin: AdminOptions | None = AdminOptions()
    """Metrics, health, status page; null: off."""
    log: LogOptions = LogOptions()
    """The log, on stderr."""
    reload: ReloadOptions = ReloadOptions()
    """What is done about changes of this file."""
    sources: dict[str, SourceOptions]
    enrich: EnrichOptions = EnrichOptions()
    """What is added to events."""
    sinks: dict[str, SinkOptions]
    journal: JournalOptions = JournalOptions()
    """What lies between the sources and the sinks."""
    standby: StandbyOptions | None = None
    """Wait for one's turn; null: there is one process."""
    shard: ShardOptions | None = None
    """Replicas that share the sources; null: this one reads all."""

    @field_validator("sources", "sinks")
    @classmethod
    def _named(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", name):
                raise ValueError(f"{name!r} is no name; use letters, digits, - and _, at most 63")
        return value

    @field_validator("shard")
    @classmethod
    def _moves_without_a_gap(cls, value: ShardOptions | None, info: ValidationInfo) -> ShardOptions | None:
        begin_now = [name for name, source in info.data.get("sources", {}).items() if source.start == "now"]
        if value is not None and value.count > 1 and begin_now:
            raise ValueError(
                "a source that moves to another replica begins there at its start, and now would leave a gap; "
                f"give {begin_now[0]} one that reaches further back than a rollout takes, like 1h"
            )
        return value

    @field_validator("sinks")
    @classmethod
    def _renamed(cls, value: dict[str, SinkOptions]) -> dict[str, SinkOptions]:
        heirs: dict[str, str] = {}
        for name, options in value.items():
            if options.was is None:
                continue
            if options.was in value:
                raise ValueError(f"{name} was {options.was}, which is still here; remove {options.was}, or `was`")
            if heirs.setdefault(options.was, name) != name:
                raise ValueError(f"{heirs[options.was]} and {name} both were {options.was}; keep one `was`")
        return value


def config_model(sources: Mapping[str, type[SourceOptions]], sinks: Mapping[str, type[SinkOptions]]) -> type[Config]:
    """Config with the options of the adapters that exist, told apart by `type`."""
    return _config_model(tuple(sources.items()), tuple(sinks.items()))


@cache  # making it takes longer than all the rest of reading a configuration
def _config_model(
    sources: tuple[tuple[str, type[SourceOptions]], ...], sinks: tuple[tuple[str, type[SinkOptions]], ...]
) -> type[Config]:
    return create_model(
        "Config",
        __base__=Config,
        __doc__="openai-audit-streamer configuration",
        sources=(_tagged(dict(sources), SourceOptions), ...),
        sinks=(_tagged(dict(sinks), SinkOptions), ...),
    )


def _tagged(models: Mapping[str, type[BaseModel]], fallback: type[BaseModel]) -> Any:
    if not models:
        return GenericAlias(dict, (str, fallback))
    tagged: list[Any] = []
    for name, model in models.items():
        only_this: Any = Literal[name]
        tagged.append(create_model(model.__name__, __base__=model, __doc__=model.__doc__, type=(only_this, ...)))
    if len(tagged) == 1:
        return GenericAlias(dict, (str, tagged[0]))
    union: Any = Union[tuple(tagged)]  # noqa: UP007 - made at run time
    return GenericAlias(dict, (str, Annotated[union, Field(discriminator="type")]))


def organizations_of(config: Config) -> dict[str, str]:
    """The organization's id of each source that has one."""
    sources = config.sources.items()
    return {name: options.organization_id for name, options in sources if options.organization_id is not None}
