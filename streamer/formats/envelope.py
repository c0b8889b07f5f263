"""The envelope as it stands in the journal, and upstream's own object alone."""

from typing import Literal

import msgspec

from streamer.model import Record


class _OnlyEvent(msgspec.Struct):
    event: msgspec.Raw


_only_event = msgspec.json.Decoder(_OnlyEvent).decode


class EnvelopeFormat:
    """`streamer.envelope/1`: the journal's bytes, unchanged."""

    def encode(self, record: Record, /) -> bytes:
        return record.line


class EnvelopeWithoutKeys:
    """The envelope for stores that cannot hold the keys of `event`: it is left out, or a string of its JSON."""

    def __init__(self, event: Literal["string", "drop"]) -> None:
        self._drop = event == "drop"

    def encode(self, record: Record, /) -> bytes:
        line = record.line
        event = bytes(_only_event(line).event)
        # `event` is the last key, and no space stands around it: what comes before is a slice.
        before = line[: -len(event) - 1]
        if self._drop:
            return before[: -len(b',"event":')] + b"}"
        return before + msgspec.json.encode(event.decode()) + b"}"


class RawFormat:
    """Upstream's object, byte for byte."""

    def encode(self, record: Record, /) -> bytes:
        return bytes(_only_event(record.line).event)
