"""What is asked for, read from a query string; and the body that answers, joined from rendered events."""

import json
from collections.abc import Sequence

import orjson

from streamer.catalog import TYPES
from streamer.model import Listing
from streamer.simulator.answers import Refusal, bad_request
from streamer.simulator.parameters import Parameters, last_value, read_flag, read_limit
from streamer.simulator.store import FILTERS, MAX_EFFECTIVE_AT, Page, Query


def listing_asked(parameters: Parameters) -> Listing:
    return "tenant" if read_flag(parameters, "tenant_only") else "organization"


def read_query(parameters: Parameters) -> Query:
    """Filters that the API does not know are ignored, as upstream does. Raises Refusal."""
    bounds = {"gte": 0, "gt": -1, "lt": MAX_EFFECTIVE_AT + 1, "lte": MAX_EFFECTIVE_AT}
    for operator in bounds:
        name = f"effective_at[{operator}]"
        if (text := last_value(parameters, name)) is not None:
            bounds[operator] = _second(name, text)
    filters = tuple((name, tuple(values)) for name in FILTERS if (values := parameters.get(name + "[]")))
    if listing_asked(parameters) == "tenant":
        _refuse_organization_types(dict(filters).get("event_types", ()))
    return Query(
        start=max(bounds["gte"], bounds["gt"] + 1),
        end=min(bounds["lt"], bounds["lte"] + 1),
        filters=filters,
        after=last_value(parameters, "after"),
        before=last_value(parameters, "before"),
        limit=read_limit(parameters),
    )


def _second(name: str, text: str) -> int:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise Refusal(bad_request(f"Invalid '{name}': {text!r} is not a Unix time in whole seconds.", name))
    return min(max(int(text), 0), MAX_EFFECTIVE_AT)


def _refuse_organization_types(event_types: Sequence[str]) -> None:
    for event_type in event_types:
        if event_type in TYPES and TYPES[event_type].listing != "tenant":
            message = f"Invalid 'event_types': {event_type!r} is not tenant-scoped, and tenant_only is true."
            raise Refusal(bad_request(message, "event_types"))


def page_body(bodies: Sequence[bytes], first_id: str | None, last_id: str | None, has_more: bool) -> bytes:
    return b"".join(
        (
            b'{"object":"list","data":[',
            b",".join(bodies),
            b'],"first_id":',
            orjson.dumps(first_id),
            b',"last_id":',
            orjson.dumps(last_id),
            b',"has_more":true}' if has_more else b',"has_more":false}',
        )
    )


def concatenated(page: Page, documents: int) -> bytes:
    """The page as several whole lists, one a line."""
    size = max(-(-len(page.bodies) // max(documents, 1)), 1)
    texts = []
    for start in range(0, len(page.bodies), size):
        ids = page.ids[start : start + size]
        last = start + size >= len(page.bodies)
        texts.append(
            page_body(
                page.bodies[start : start + size], ids[0], page.last_id if last else ids[-1], page.has_more or not last
            )
        )
    return b"\n".join(texts) or page_body([], page.first_id, page.last_id, page.has_more)


def indented(body: bytes) -> bytes:
    return json.dumps(json.loads(body), indent=2).encode()
