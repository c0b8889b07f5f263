"""The nouns: what upstream said, what we know about it, and where it stands in the journal."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NewType

import msgspec

SourceName = NewType("SourceName", str)
SinkName = NewType("SinkName", str)
EventId = NewType("EventId", str)
Seq = NewType("Seq", int)
"""A record's place in the journal: 1, 2, 3 … never reused."""

Listing = Literal["organization", "tenant"]
LISTINGS: tuple[Listing, ...] = ("organization", "tenant")

Outcome = Literal["success", "failure", "unknown"]
Severity = Literal["informational", "low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("informational", "low", "medium", "high", "critical")
"""In rising order."""

ENVELOPE_SCHEMA = "streamer.envelope/1"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_EPOCH_SECONDS = 253_402_300_799  # 9999-12-31T23:59:59Z, the last second that RFC 3339 can write


def from_epoch(seconds: float) -> datetime:
    """Unix seconds to an aware UTC time; what RFC 3339 cannot write is clamped to its nearest end."""
    if not 0 <= seconds <= MAX_EPOCH_SECONDS:
        seconds = min(max(seconds, 0), MAX_EPOCH_SECONDS)
    return EPOCH + timedelta(0, seconds)  # half of what `fromtimestamp` takes


def to_epoch(time: datetime) -> int:
    """Whole Unix seconds of an aware time. Subtracting costs half of what `timestamp` does."""
    since = time - EPOCH
    return since.days * 86_400 + since.seconds


class Event(msgspec.Struct, frozen=True, gc=False):
    """What upstream said: its bytes, and the facts that we read out of them."""

    raw: bytes
    """The JSON text of one record, exactly as it stood on the wire."""
    id: EventId
    """Upstream's id, or `sha256-<hex>` of the bytes where there is none."""
    type: str
    """Upstream's type, or `unknown` where there is none."""
    effective_at: int
    """Unix seconds; 0 where upstream gave none that can be read."""


class Window(msgspec.Struct, frozen=True, gc=False):
    """A half-open range [start, end) of `effective_at`, in Unix seconds, that is walked as a whole or not at all."""

    start: int
    end: int | None
    """None is open: everything from `start` on, events that are ahead of our clock included."""


class Progress(msgspec.Struct, frozen=True):
    """How far one listing of one source has been walked. Stored in the transaction that appends the events."""

    watermark: int
    """Everything visible with `effective_at` < watermark (Unix seconds) has been walked."""
    rechecked: tuple[int, ...] = ()
    """For each recheck of the configuration, in its order: the Unix second up to which it has been walked again."""
    begin: int = 0
    """The Unix second of `start`, when the listing was first read: no overlap and no recheck reaches further back."""


class Geo(msgspec.Struct, omit_defaults=True, gc=False):
    country: str | None = None
    region: str | None = None
    city: str | None = None
    asn: int | None = None
    as_name: str | None = None
    latitude: float | None = None
    longitude: float | None = None


class Actor(msgspec.Struct, omit_defaults=True, gc=False):
    """Who did it. A field that is absent is not known."""

    type: str | None = None
    """`user`, `service_account`, or upstream's own word where it is another."""
    id: str | None = None
    email: str | None = None
    name: str | None = None
    via: str | None = None
    """`session`, `api_key`, or upstream's own word. A session does not mean a human."""
    api_key_id: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    ja3: str | None = None
    ja4: str | None = None
    geo: Geo | None = None


class Project(msgspec.Struct, omit_defaults=True, gc=False):
    id: str | None = None
    name: str | None = None


class Target(msgspec.Struct, omit_defaults=True, gc=False):
    """Something that was acted on."""

    type: str
    id: str | None = None
    name: str | None = None


NO_DETAILS = msgspec.Raw(b"null")


class Envelope(msgspec.Struct, kw_only=True, gc=False):
    """An event and what we know about it: made once, before the journal; the public schema `streamer.envelope/1`.

    Enrichers fill it in place; from the journal on it is bytes and does not change.
    """

    schema: str = ENVELOPE_SCHEMA
    id: EventId
    source: SourceName
    listing: Listing
    type: str
    family: str
    action: str
    known: bool
    time: datetime
    observed_at: datetime
    late: bool = False
    outcome: Outcome
    severity: Severity
    tags: list[str] = msgspec.field(default_factory=list)
    rules: list[str] = msgspec.field(default_factory=list)
    actor: Actor | None = None
    project: Project | None = None
    targets: list[Target] = msgspec.field(default_factory=list)
    details: msgspec.Raw = NO_DETAILS
    """The payload as sent; JSON `null` where there is none. (msgspec cannot decode a union with Raw.)"""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    event: msgspec.Raw
    """Last on purpose: `raw` is then a slice of the encoded line."""


FRAME_FIELDS: frozenset[str] = frozenset(
    {
        "schema", "id", "source", "listing", "type", "family", "action", "known", "time", "observed_at", "late", "outcome", "severity",
    }
)  # fmt: skip
"""What tells an event from others and where it belongs; every sink needs it, so it is never redacted."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Envelope).decode


def encode_envelope(envelope: Envelope) -> bytes:
    """One JSON object on one line, without the line break."""
    return _encode(envelope)


def decode_envelope(line: bytes) -> Envelope:
    return _decode(line)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An encoded envelope on its way into the journal."""

    id: EventId
    effective_at: int
    """Unix seconds."""
    line: bytes
    """`encode_envelope`'s bytes: JSON without a line break."""


class Record(msgspec.Struct, eq=False, gc=False):
    """An envelope with its place in the journal. Decodes itself only when somebody looks inside."""

    seq: Seq
    line: bytes
    _envelope: Envelope | None = None

    def __repr__(self) -> str:
        return f"Record({self.seq})"  # what people did is nothing for a log

    @property
    def envelope(self) -> Envelope:
        # Not a cached_property: its lock costs a fifth of the decoding.
        if self._envelope is None:
            self._envelope = decode_envelope(self.line)
        return self._envelope

    def forget(self) -> None:
        """Let go of what was decoded. A whole batch of it leaves the processor's caches, and costs a tenth of the rate to keep and to free."""
        self._envelope = None


class Message(msgspec.Struct, frozen=True, gc=False):
    """One record as one sink will see it."""

    record: Record
    body: bytes
    """The sink's format of the record, without a line break at its end."""
    replayed: bool = False
    """Delivered again on request; adapters mark it in their transport, the body stays the same."""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Messages in `seq` order, at least one, for one `Sink.write`."""

    messages: list[Message]

    @property
    def first_seq(self) -> Seq:
        return self.messages[0].record.seq

    @property
    def last_seq(self) -> Seq:
        return self.messages[-1].record.seq

    def __len__(self) -> int:
        return len(self.messages)


Bookmark = Mapping[str, Any]
"""A sink's own note of where it stands: JSON-serialisable, opaque to everybody else."""
