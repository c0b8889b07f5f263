"""`/_sim/`: the simulator is steered and asked while it runs, without a key.

| request | does |
|---|---|
| `GET /_sim/truth?listing=organization[&raw=1]` | every event that is or will be visible, NDJSON: id, listing, type, effective_at, visible_at, and sha256 of its bytes or (raw) its text |
| `POST /_sim/events[?listing=tenant]` | a JSON list of events, or NDJSON (also of what strict parsers refuse), goes into the log byte for byte; `{"type": "login.failed", "count": 5}` makes some of now (no type: what the story has next) |
| `GET /_sim/faults` | what is on, what has struck, and what there is |
| `PUT /_sim/faults` | exactly these are on: `{"late": {"probability": 0.1, "value": 30}}`; `{}` ends all |
| `GET /_sim/stats` | requests, by status, pages, events, the most at once |
| `POST /_sim/directory` | `{"list": "projects", "id": "proj_…", "name": "New"}` renames, without a name deletes, and the log does not tell |
| `POST /_sim/keys` | `{"keys": ["sk-admin-new"]}` are accepted from now on, others are not |
"""

from typing import TYPE_CHECKING, Any

import msgspec
import orjson
from aiohttp import web

from streamer.model import LISTINGS, Listing
from streamer.simulator.directory import change
from streamer.simulator.faults import FAULTS, check_fault
from streamer.simulator.upstream import truth_lines

if TYPE_CHECKING:
    from streamer.simulator.server import Simulator

NDJSON = "application/x-ndjson"
CHUNK_BYTES = 1 << 18


class EventOrder(msgspec.Struct, forbid_unknown_fields=True):
    type: str | None = None
    count: int = 1


class Keys(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[str]


class Change(msgspec.Struct, forbid_unknown_fields=True):
    list: str
    id: str
    name: str | None = None


class Control:
    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator

    async def truth(self, request: web.Request) -> web.StreamResponse:
        listing = _listing(request)
        raw = request.query.get("raw", "0") not in ("0", "false")
        response = web.StreamResponse(headers={"Content-Type": NDJSON})
        await response.prepare(request)
        chunk = bytearray()
        for name in LISTINGS if listing is None else (listing,):
            for line in truth_lines(self._simulator.upstream.truth(name), name, raw=raw):
                chunk += line
                if len(chunk) >= CHUNK_BYTES:
                    await response.write(bytes(chunk))
                    chunk.clear()
        await response.write(bytes(chunk))
        await response.write_eof()
        return response

    async def events(self, request: web.Request) -> web.Response:
        listing, body, upstream = _listing(request), await request.read(), self._simulator.upstream
        try:
            if request.content_type == NDJSON:
                made = [upstream.inject(text, listing) for text in body.splitlines()]
            elif body.lstrip().startswith(b"["):
                texts = msgspec.json.decode(body, type=list[msgspec.Raw])
                made = [upstream.inject(bytes(text), listing) for text in texts]
            else:
                order = msgspec.json.decode(body, type=EventOrder)
                made = upstream.invent(order.type, order.count)
        except (msgspec.MsgspecError, ValueError) as error:
            raise _refusal(f"body: {error}; send a list of events, or an object with type and count") from None
        return _json({"ids": [event.id for event in made]})

    async def show_faults(self, _: web.Request) -> web.Response:
        faults = self._simulator.faults
        return _json(
            {
                "on": {name: msgspec.to_builtins(setting) for name, setting in faults.settings.items()},
                "struck": faults.struck,
                "known": {
                    fault.name: {"does": fault.does, "value": fault.value, "value_means": fault.means}
                    for fault in FAULTS.values()
                },
            }
        )

    async def set_faults(self, request: web.Request) -> web.Response:
        try:
            wanted = msgspec.json.decode(await request.read(), type=dict[str, dict[str, Any]])
            settings = dict(check_fault(name, fields) for name, fields in wanted.items())
        except (msgspec.MsgspecError, ValueError) as error:
            raise _refusal(f"{error}") from None
        self._simulator.faults.settings = settings
        return await self.show_faults(request)

    async def stats(self, _: web.Request) -> web.Response:
        return _json(msgspec.to_builtins(self._simulator.stats))

    async def directory(self, request: web.Request) -> web.Response:
        try:
            wanted = msgspec.json.decode(await request.read(), type=Change)
            change(self._simulator.upstream.company, wanted.list, wanted.id, wanted.name)
        except (msgspec.MsgspecError, ValueError) as error:
            raise _refusal(f"{error}") from None
        return _json({})

    async def keys(self, request: web.Request) -> web.Response:
        try:
            wanted = msgspec.json.decode(await request.read(), type=Keys)
        except msgspec.MsgspecError as error:
            raise _refusal(f"{error}") from None
        self._simulator.api_keys = set(wanted.keys)
        return _json({"keys": len(wanted.keys)})


def add_routes(application: web.Application, simulator: "Simulator") -> None:
    control = Control(simulator)
    application.router.add_get("/_sim/truth", control.truth)
    application.router.add_post("/_sim/events", control.events)
    application.router.add_get("/_sim/faults", control.show_faults)
    application.router.add_put("/_sim/faults", control.set_faults)
    application.router.add_get("/_sim/stats", control.stats)
    application.router.add_post("/_sim/directory", control.directory)
    application.router.add_post("/_sim/keys", control.keys)


def _listing(request: web.Request) -> Listing | None:
    text = request.query.get("listing")
    if text is None:
        return None
    for listing in LISTINGS:
        if text == listing:
            return listing
    raise _refusal(f"listing={text}: it is organization or tenant")


def _refusal(message: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=message + "\n")


def _json(tree: Any) -> web.Response:
    return web.Response(body=orjson.dumps(tree), content_type="application/json")
