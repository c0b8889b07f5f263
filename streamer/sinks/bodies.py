"""What sinks make of events: times, JSON, limits, and which of a batch have been taken."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from streamer.config import FormatName
from streamer.errors import PermanentError
from streamer.model import EPOCH, Batch, Message, Record

JSON_FORMATS: frozenset[FormatName] = frozenset({"envelope", "raw", "ocsf", "ecs"})
"""Formats whose bytes are one JSON value; the others are text."""


def unix_nanos(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def as_json(message: Message, is_json: bool) -> bytes:
    """The format's bytes as a JSON value: text (CEF, LEEF) becomes a string."""
    return message.body if is_json else as_json_string(message.body)


def as_json_string(body: bytes) -> bytes:
    return msgspec.json.encode(body.decode("utf-8", "replace"))


class Taken:
    """The records of a batch that failed half-way which the other side has already taken, so that the next try sends only the rest.

    Records count as the same while they are the same object: what is read from the journal again is sent again.
    """

    def __init__(self) -> None:
        self._records: dict[int, Record] = {}

    def rest(self, batch: Batch) -> list[int]:
        """Indexes of the messages that are still to be sent."""
        return [i for i, message in enumerate(batch.messages) if id(message.record) not in self._records]

    def add(self, message: Message) -> None:
        self._records[id(message.record)] = message.record

    def finish(self, batch: Batch) -> None:
        """The batch is through: forget it."""
        for message in batch.messages:
            self._records.pop(id(message.record), None)


def too_large(sizes: Iterable[int], limit: int, what: str) -> None:
    """PermanentError that names the entries over a limit which the store answers by cutting or refusing."""
    over = [i for i, size in enumerate(sizes) if size > limit]
    if over:
        raise PermanentError(f"too large: {what} takes at most {limit} bytes", rejected=over)


def check_request(body: bytes, limit: int, store: str) -> bytes:
    """The body, or PermanentError, on which the batch is halved, if it is over the store's limit."""
    if len(body) > limit:
        raise PermanentError(f"{len(body)} bytes in one request: {store} takes at most {limit}")
    return body
