"""A record in the bytes of a store's schema: one file a format, chosen here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, assert_never

from streamer.config import FormatName, OcsfVersion
from streamer.formats.cef import CefFormat
from streamer.formats.ecs import EcsFormat
from streamer.formats.envelope import EnvelopeFormat, EnvelopeWithoutKeys, RawFormat
from streamer.formats.leef import LeefFormat
from streamer.formats.ocsf import OcsfFormat
from streamer.ports import Format

_NONE: Mapping[str, str] = MappingProxyType({})


def make_format(
    name: FormatName,
    organizations: Mapping[str, str] = _NONE,
    ocsf_version: OcsfVersion = "1.8.0",
    event: Literal["keep", "string", "drop"] = "keep",
) -> Format:
    """`organizations`: source name to organization id, for the formats that have a place for it; no event carries it.
    `event`: of the envelope."""
    match name:
        case "envelope":
            return EnvelopeFormat() if event == "keep" else EnvelopeWithoutKeys(event)
        case "raw":
            return RawFormat()
        case "cef":
            return CefFormat(organizations)
        case "leef":
            return LeefFormat(organizations)
        case "ecs":
            return EcsFormat(organizations)
        case "ocsf":
            return OcsfFormat(organizations, ocsf_version)
        case _:
            assert_never(name)
