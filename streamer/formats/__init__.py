"""A record in the bytes of a store's schema: one file a format, chosen here."""

from typing import assert_never

from streamer.config import FormatName
from streamer.formats.envelope import EnvelopeFormat, RawFormat
from streamer.ports import Format


def make_format(name: FormatName) -> Format:
    match name:
        case "envelope":
            return EnvelopeFormat()
        case "raw":
            return RawFormat()
        case "ocsf" | "ecs" | "cef" | "leef":
            raise NotImplementedError(name)
        case _:
            assert_never(name)
