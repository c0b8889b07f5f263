"""The operator's file: YAML with `${NAME}` references, `STREAMER_…` overrides, and every mistake at once with its place.

Options that belong to one source or sink live beside it; this module holds what they all share, and is told the rest
by `load(…, sources=…, sinks=…)`.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Literal, NewType, Self, Union

import yaml
from msgspec import inspect
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from streamer.errors import ConfigError
from streamer.model import FRAME_FIELDS, LISTINGS, Envelope, Listing, Outcome, Severity

# --- kinds of values -------------------------------------------------------------------------------------------------

_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")


def parse_duration(value: object) -> float:
    """`10s`, `1h30m`, `500ms`, `30d` to seconds. A bare number has no unit and is refused."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    text = str(value).strip()
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write a number and a unit: 500ms, 10s, 5m, 12h, 30d")
    return sum(float(n) * _UNITS_S[unit] for n, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", text))


def show_duration(seconds: float) -> str:
    """Seconds in the largest unit that is exact: 300 to `5m`."""
    for unit in ("w", "d", "h", "m", "s"):
        count = seconds / _UNITS_S[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{int(seconds * 1000)}ms" if seconds else "0s"


def show_size(size: int) -> str:
    """Bytes in the largest unit that is exact: 1048576 to `1MiB`."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size and size % (1 << power) == 0:
            return f"{size >> power}{unit}"
    return f"{size}B"


def parse_moment(value: object) -> float | datetime | Literal["now", "beginning"]:
    """`now`, `beginning`, an RFC 3339 time, or a duration back from now (seconds)."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    text = str(value).strip()
    if text == "now":
        return "now"
    if text == "beginning":
        return "beginning"
    if _DURATION.fullmatch(text):
        return parse_duration(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time; write now, beginning, a duration back (30d) or a time (2026-01-31T00:00:00Z)"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def show_moment(moment: float | datetime | str) -> str:
    if isinstance(moment, datetime):
        return moment.isoformat().replace("+00:00", "Z")
    return moment if isinstance(moment, str) else show_duration(moment)


def resolve_moment(moment: float | datetime | str, now: float) -> float:
    """To Unix seconds; `beginning` is 0."""
    if isinstance(moment, datetime):
        return moment.timestamp()
    if isinstance(moment, str):
        return now if moment == "now" else 0.0
    return now - moment


def _not_future(moment: float | datetime | str) -> float | datetime | str:
    if isinstance(moment, datetime) and moment > datetime.now(UTC):
        raise ValueError(f"{moment.isoformat()} lies in the future; use now to begin with the next event")
    return moment


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be longer than 0")
    return seconds


Duration = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=Annotated[str, Field(examples=["10s", "5m"])]),
    AfterValidator(_positive),
    PlainSerializer(show_duration, when_used="json"),
]
"""Seconds; written with a unit."""
Wait = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=Annotated[str, Field(examples=["1s", "0s"])]),
    PlainSerializer(show_duration, when_used="json"),
]
"""As Duration, and may be 0."""
Moment = Annotated[
    float | datetime | Literal["now", "beginning"],
    BeforeValidator(parse_moment, json_schema_input_type=Annotated[str, Field(examples=["30d", "now"])]),
    AfterValidator(_not_future),
    PlainSerializer(show_moment, when_used="json"),
]


AUTO_OVERLAP_S = (60.0, 3600.0)
"""Between these `overlap: auto` keeps itself."""


def _parse_overlap(value: object) -> object:
    return "auto" if value == "auto" else _positive(parse_duration(value))


Overlap = Annotated[
    float | Literal["auto"],
    BeforeValidator(_parse_overlap, json_schema_input_type=Annotated[str, Field(examples=["5m", "auto"])]),
    PlainSerializer(lambda value: value if isinstance(value, str) else show_duration(value), when_used="json"),
]
"""As Duration, or `auto`: from the lateness that was observed."""


def _url(text: str) -> str:
    if not re.match(r"https?://[^/\s]+", text):
        raise ValueError(f"{text!r} is not a URL; begin with https:// (or http://) and a host")
    return text.rstrip("/")


Url = Annotated[str, AfterValidator(_url)]


class Strict(BaseModel):
    """Unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Secret:
    """A secret by value or by file. A file is read again whenever it changes, so that a key is rotated by replacing it."""

    def __init__(self, name: str, value: SecretStr | None, file: Path | None) -> None:
        self._name, self._value, self._file = name, value, file
        self._read: tuple[tuple[int, int, int], str] | None = None

    def reveal(self) -> str:
        """The secret of this moment. ConfigError when its file cannot be read or is empty."""
        if self._file is None:
            assert self._value is not None
            return self._value.get_secret_value()
        try:
            stat = self._file.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, self._file.read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigError(f"{self._name}: cannot read {self._file}: {reason}; mount the secret there") from None
        if not self._read[1]:
            raise ConfigError(f"{self._name}: {self._file} is empty; write the secret into it")
        return self._read[1]

    def __repr__(self) -> str:
        return f"Secret({self._name}={'file ' + str(self._file) if self._file else '***'})"


def one_secret(where: str, value: SecretStr | None, file: Path | None) -> Secret | None:
    """The Secret of an option that comes as `name` or `name_file`; None where neither is set. ValueError for both."""
    if value is not None and file is not None:
        raise ValueError(f"{where} and {where}_file exclude each other; keep one")
    if value is None and file is None:
        return None
    if value is not None and not value.get_secret_value().strip():
        raise ValueError(f"{where} is empty; set it or use {where}_file")
    return Secret(where, value, file)


# --- the parts -------------------------------------------------------------------------------------------------------


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


class Where(Strict):
    """Which events a sink takes: all of the given conditions must hold; within a list, one."""

    types: list[str] = []
    """Event types; `*` stands for any characters."""
    families: list[str] = []
    """As `streamer types` shows them."""
    min_severity: Severity | None = None
    """This severity and above."""
    sources: list[str] = []
    """Names of sources."""
    listings: list[Listing] = []
    """`organization`, `tenant`."""
    projects: list[str] = []
    """Project ids or names."""
    outcome: Outcome | None = None
    """How it ended."""
    tags: list[str] = []
    """Tags that rules and networks have set."""
    all: list["Where"] = []
    """Nested conditions: all must hold."""
    any: list["Where"] = []
    """Nested conditions: one must hold."""
    none: list["Where"] = []
    """Nested conditions: none may hold."""


def _envelope_paths(kind: inspect.Type, path: str = "") -> Iterator[str]:
    """Every dotted path of the schema below `path` that may be redacted; `*` is an item of a list. What may hold anything ends in `.`"""
    match kind:
        case inspect.StructType(fields=fields):
            for field in fields:
                if path or field.encode_name not in FRAME_FIELDS:
                    name = f"{path}.{field.encode_name}".lstrip(".")
                    yield name
                    yield from _envelope_paths(field.type, name)
        case inspect.ListType(item_type=item):
            yield f"{path}.*"
            yield from _envelope_paths(item, f"{path}.*")
        case inspect.UnionType(types=types):
            for part in types:
                yield from _envelope_paths(part, path)
        case inspect.DictType() | inspect.RawType():
            yield f"{path}."


_FIELDS = list(_envelope_paths(inspect.type_info(Envelope)))


def _is_field(known: str, path: str) -> bool:
    if known.endswith("."):
        return path.startswith(known)
    ours, theirs = path.split("."), known.split(".")
    same = (
        step == name or (step == "*" and i > 0) or (name == "*" and step.isdecimal())
        for i, (step, name) in enumerate(zip(ours, theirs, strict=False))
    )
    return len(ours) == len(theirs) and all(same)


def _envelope_field(path: str) -> str:
    """A path that an envelope can have, as far as the schema goes."""
    if all(path.split(".")) and any(_is_field(known, path) for known in _FIELDS):
        return path
    if path.split(".")[0] in FRAME_FIELDS:
        raise ValueError(f"{path} cannot be redacted, every sink needs it; filter with where instead")
    near = difflib.get_close_matches(path, _FIELDS, 1, 0.5)
    raise ValueError(
        f"{path} is no field of an envelope; "
        + (f"did you mean {near[0].rstrip('.')}?" if near else "see streamer schema envelope")
    )


class Redaction(Strict):
    """One field of the envelope, dotted; `*` stands for one step. Its copies in `details` and `event`, and wherever else the record
    has the same text, go too.

    drop: it is not there. mask: `***`. hash: 32 hex digits of HMAC-SHA256 with `redact_key`. truncate: the first characters (4, at
    most a third); of an address its /24 or /48.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)

    field: Annotated[str, AfterValidator(_envelope_field)]
    """Like `actor.email` or `targets.*.name`."""
    with_: Annotated[Literal["drop", "mask", "hash", "truncate"], Field(alias="with")]
    """Left out, masked, hashed with `redact_key`, or cut (an address to its network, a text to its beginning)."""


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
    """How long the first walk waits for the first load."""


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


class Config(Strict):
    """The whole file; `sources` and `sinks` hold the adapters' own option models."""

    state: Path = Path("/var/lib/streamer")
    """A folder of this daemon alone: the journal and its lock. It holds events, so it is made with mode 0700."""
    admin: AdminOptions | None = AdminOptions()
    """Metrics, health, status page; null: off."""
    log: LogOptions = LogOptions()
    """The log, on stderr."""
    sources: dict[str, SourceOptions]
    enrich: EnrichOptions = EnrichOptions()
    """What is added to events."""
    sinks: dict[str, SinkOptions]
    journal: JournalOptions = JournalOptions()
    """What lies between the sources and the sinks."""

    @field_validator("sources", "sinks")
    @classmethod
    def _named(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", name):
                raise ValueError(f"{name!r} is no name; use letters, digits, - and _, at most 63")
        return value


def config_model(sources: Mapping[str, type[SourceOptions]], sinks: Mapping[str, type[SinkOptions]]) -> type[Config]:
    """Config with the options of the adapters that exist, told apart by `type`."""
    return create_model(
        "Config",
        __base__=Config,
        __doc__="openai-audit-streamer configuration",
        sources=(_tagged(sources, SourceOptions), ...),
        sinks=(_tagged(sinks, SinkOptions), ...),
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


# --- reading the file ------------------------------------------------------------------------------------------------

Path_ = tuple[str | int, ...]
Place = int | str
"""A line of the file, counted from 1, or the environment variable that was put in its stead."""
Places = NewType("Places", dict[Path_, Place])
"""Where each key stands."""
Problem = tuple[Place, str]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}")


class _Reader:
    """A YAML document to plain objects and the line of every key; collects problems instead of stopping at the first."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env, self.places, self.problems = env, Places({}), list[Problem]()
        self.unresolved = set[Path_]()
        """Where a variable that is not set leaves no value."""
        self._loader = yaml.SafeLoader("")

    def read(self, node: yaml.Node, path: Path_ = ()) -> Any:
        self.places.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in result:
                self.problems.append((line, f"{show_path((*path, key))} is there twice; keep one"))
            self.places[(*path, key)] = line
            result[key] = self.read(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.Node, path: Path_) -> Any:
        if "${" not in node.value:
            # Times stay text, so that they are read in one place and with their zone.
            return node.value if node.tag.endswith(":timestamp") else self._loader.construct_object(node)
        text = _REFERENCE.sub(lambda m: self._lookup(m, path), node.value)
        return yaml.safe_load(text) if getattr(node, "style", None) is None and text else text

    def _lookup(self, match: re.Match[str], path: Path_) -> str:
        name, default = match[1], match[3]
        if name in self.env:
            return self.env[name]
        if default is None:
            sentence = f"{show_path(path)}: ${{{name}}} is not set in the environment; set it or write ${{{name}:-…}}"
            self.problems.append((self.places[path], sentence))
            self.unresolved.add(path)
        return default or ""


def show_path(path: Path_) -> str:
    return re.sub(r"\.\[", "[", ".".join(f"[{p}]" if isinstance(p, int) else str(p) for p in path)) or "the file"


def _overrides(env: Mapping[str, str], data: dict[str, Any], places: Places) -> Iterator[Problem]:
    """Put `STREAMER_A__B=value` at a.b; yields what cannot be put anywhere."""
    for name, value in sorted(env.items()):
        if not name.startswith("STREAMER_") or name == "STREAMER_CONFIG_FILE":
            continue
        *parents, leaf = name.removeprefix("STREAMER_").lower().split("__")
        node, path = data, list[str]()
        for part in parents:
            path.append(next((k for k in node if k.lower().replace("-", "_") == part), part))
            places.setdefault(tuple(path), name)
            node = node.setdefault(path[-1], {})
            if not isinstance(node, dict):
                yield name, f"{show_path(tuple(path))} holds no keys; check the name of the variable"
                break
        else:
            key = next((k for k in node if k.lower().replace("-", "_") == leaf), leaf)
            node[key] = yaml.safe_load(value) if value else value
            places[(*path, key)] = name


def _known_keys(model: type[BaseModel]) -> set[str]:
    schema = model.model_json_schema()
    return {key for part in (schema, *schema.get("$defs", {}).values()) for key in part.get("properties", {})}


def _sentence(error: ErrorDetails, model: type[BaseModel]) -> str:
    """pydantic's finding in our words, with the mend."""
    kind, last = error["type"], str(error["loc"][-1]) if error["loc"] else ""
    context = error.get("ctx", {})
    match kind:
        case "extra_forbidden":
            near = difflib.get_close_matches(last, sorted(_known_keys(model)), 1)
            return f"unknown key; did you mean {near[0]}?" if near else "unknown key; remove it"
        case "missing":
            return "is missing; add it"
        case "union_tag_not_found":
            return "needs a type"
        case "union_tag_invalid":
            known = str(context["expected_tags"]).replace("'", "")
            near = difflib.get_close_matches(str(context["tag"]), known.split(", "), 1)
            return (
                f"unknown type {context['tag']}; " + (f"did you mean {near[0]}? " if near else "") + f"known: {known}"
            )
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"must be {context['expected']}".replace("'", "")
        case "path_type":
            return "must be a path"
        case "string_pattern_mismatch" if last == "listen":
            return "must be HOST:PORT, like 127.0.0.1:9464"
    return error["msg"][:1].lower() + error["msg"][1:]


def _path(error: ErrorDetails, data: Any) -> Path_:
    """Where it stands in the file. The location has steps that are not there (a union's tag): skipped."""
    path: Path_ = ()
    node = data
    for i, part in enumerate(error["loc"]):
        inside = (isinstance(node, dict) and part in node) or (isinstance(node, list) and isinstance(part, int))
        if inside:
            path, node = (*path, part), node[part]
        elif i == len(error["loc"]) - 1 and error["type"] in ("missing", "extra_forbidden"):
            path = (*path, part)
    return path


class _Judge:
    """Every mistake of a document: what is wrong is taken out and the rest is looked at again, because a part with one mistake
    is not looked at as a whole."""

    def __init__(self, data: Any, places: Places, unresolved: set[Path_], model: type[Config]) -> None:
        self.problems: list[Problem] = []
        self._data, self._places, self._model = data, places, model
        self._out = set(unresolved)
        for path in unresolved:
            self._take_out(path)

    def config(self) -> Config | None:
        """What is left when all mistakes are out; None when nothing can be left."""
        while True:
            try:
                return self._model.model_validate(self._data)
            except ValidationError as errors:
                found = [(_path(e, self._data), _sentence(e, self._model)) for e in errors.errors()]
            self.problems += [
                (self._place(path), f"{show_path(path)}: {sentence}")
                for path, sentence in found
                if not self._follows(path, sentence)
            ]
            if not all([self._take_out(path) for path, _ in found]):
                return None

    def _place(self, path: Path_) -> Place:
        return next((self._places[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self._places), 1)

    def _follows(self, path: Path_, sentence: str) -> bool:
        """Whether it is only said because something was taken out."""
        return any(out[: len(path)] == path and (out == path or str(out[-1]) in sentence) for out in self._out)

    def _take_out(self, path: Path_) -> bool:
        """The key, or what it is missing from; of a list, the whole. False when that is the whole document."""
        path = next((path[:i] for i, part in enumerate(path) if isinstance(part, int)), path)
        if not path:
            return False
        *parents, key = path
        node = self._data
        for part in parents:
            node = node.get(part) if isinstance(node, dict) else None
        self._out.add(path)
        if isinstance(node, dict) and key in node:
            del node[key]
        elif parents:
            return self._take_out(tuple(parents))
        else:
            self._data[key] = {}  # `sources` or `sinks`: as good as empty
        return True


def load(
    path: Path,
    *,
    sources: Mapping[str, type[SourceOptions]],
    sinks: Mapping[str, type[SinkOptions]],
    env: Mapping[str, str] = os.environ,
) -> tuple[Config | None, list[str]]:
    """As `judge`, of a file; ConfigError when it cannot be read."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}; give the configuration file with -c") from None
    return judge(text, str(path), sources=sources, sinks=sinks, env=env)


def judge(
    text: str,
    name: str,
    *,
    sources: Mapping[str, type[SourceOptions]],
    sinks: Mapping[str, type[SinkOptions]],
    env: Mapping[str, str],
) -> tuple[Config | None, list[str]]:
    """The configuration as far as it is good, and every problem with file, line and mend. `name`: what problems call the file.

    ConfigError for a text that is no YAML mapping.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        line = mark.line if mark else 0
        mend = "put quotes around ${…}" if "${" in "".join(text.splitlines()[line : line + 1]) else "mend the line"
        raise ConfigError(f"{name}:{line + 1}: not YAML: {what}; {mend}") from None
    reader = _Reader(env)
    data = reader.read(node) if node is not None else {}
    if not isinstance(data, dict):
        raise ConfigError(f"{name}:1: not a configuration: write keys and values, like state: /var/lib/streamer")
    problems = [*reader.problems, *_overrides(env, data, reader.places)]
    for part in ("sources", "sinks"):
        if part in data and not data[part]:
            problems.append((reader.places.get((part,), 1), f"{part}: must name at least one"))
            data[part] = {}
    rest = _Judge(data, reader.places, reader.unresolved, config_model(sources, sinks))
    config = rest.config()
    found = sorted({*problems, *rest.problems}, key=lambda p: (isinstance(p[0], str), p))
    return config, [f"{place if isinstance(place, str) else f'{name}:{place}'}: {said}" for place, said in found]


def parse(
    text: str,
    name: str,
    *,
    sources: Mapping[str, type[SourceOptions]],
    sinks: Mapping[str, type[SinkOptions]],
    env: Mapping[str, str],
) -> Config:
    """As `judge`; ConfigError holds all problems."""
    config, problems = judge(text, name, sources=sources, sinks=sinks, env=env)
    if problems or config is None:
        raise ConfigError(*problems)
    return config


def effective(config: Config) -> str:
    """The configuration as it is in force, as YAML; secrets show as asterisks."""
    shown = _shown(config, config.model_dump(mode="json", by_alias=True))
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)


def _shown(value: Any, as_json: Any) -> Any:
    """What a person writes: sizes with their unit, `type` first."""
    if isinstance(value, ByteSize):
        return show_size(value)
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        value = {field.alias or name: getattr(value, name) for name, field in fields.items()}
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key != "type")
        return {key: _shown(value[key], as_json[key]) for key in keys}
    return as_json


def organizations_of(config: Config) -> dict[str, str]:
    """The organization's id of each source that has one."""
    sources = config.sources.items()
    return {name: options.organization_id for name, options in sources if options.organization_id is not None}
