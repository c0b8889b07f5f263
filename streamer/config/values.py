"""Kinds of values that an operator writes: durations, sizes, moments, addresses; read from text and shown as text."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
LONGEST_DURATION_S = 36_525 * 86_400
"""Beyond it times leave the calendar."""
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")


def parse_duration(value: object) -> float:
    """`10s`, `1h30m`, `500ms`, `30d` to seconds. A bare number has no unit and is refused."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    text = str(value).strip()
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write a number and a unit: 500ms, 10s, 5m, 12h, 30d")
    seconds = sum(float(n) * _UNITS_S[unit] for n, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", text))
    if seconds > LONGEST_DURATION_S:
        raise ValueError("is longer than a hundred years; write less")
    return seconds


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

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)
