"""The envelope as it stands in the journal, and upstream's own object alone."""

import msgspec

from streamer.model import Record


class _OnlyEvent(msgspec.Struct):
    event: msgspec.Raw


_only_event = msgspec.json.Decoder(_OnlyEvent).decode


class EnvelopeFormat:
    """`streamer.envelope/1`: the journal's bytes, unchanged."""

    def encode(self, record: Record, /) -> bytes:
        return record.line


class RawFormat:
    """Upstream's object, byte for byte."""

    def encode(self, record: Record, /) -> bytes:
        return bytes(_only_event(record.line).event)
