"""The JSON Schema of the envelope, for those who read what we write. The shape comes from the model; the words are here."""

from collections.abc import Mapping
from typing import Any

import msgspec

from streamer.model import ENVELOPE_SCHEMA, SEVERITIES, Envelope

_WORDS: Mapping[str, Mapping[str, str]] = {
    "Envelope": {
        "schema": "Name and version of this schema.",
        "id": "Upstream's id of the event, or `sha256-<hex>` of its bytes where it has none: the idempotency key everywhere.",
        "source": "The configured name of the organization that the event was read from.",
        "listing": "Which of the two lists it stood in.",
        "type": "Upstream's type, `role.bound_to_resource`; `unknown` where it has none.",
        "family": "The front of the type: `role`, `tenant.group`.",
        "action": "The rest of the type: `bound_to_resource`.",
        "known": "The catalogue knows the type and every field of the event.",
        "time": "When it took effect, RFC 3339 in UTC, whole seconds; 1970 where upstream's time cannot be read.",
        "observed_at": "When we saw it first, RFC 3339 in UTC.",
        "late": "Found by a recheck, after its time had been walked.",
        "outcome": "Whether the action succeeded; `unknown` for what has only begun or been asked for.",
        "severity": "In rising order: " + ", ".join(SEVERITIES) + ". The type's own, or what a rule raised it to.",
        "tags": "Tags of the rules that matched.",
        "rules": "Names of the rules that matched.",
        "actor": "Who did it; null where upstream does not say.",
        "project": "The project that it was scoped to; null where there is none.",
        "targets": "What was acted on, the most telling first.",
        "details": "The payload as sent, whatever key it had; null where there is none.",
        "labels": "What enrichers added.",
        "event": "The upstream object, byte for byte, line breaks between its tokens apart; a string of its text where it is no JSON "
        "that a strict reader takes.",
    },
    "Actor": {
        "type": "`user`, `service_account`, or upstream's own word.",
        "id": "Of the user or the service account.",
        "email": "Of the user.",
        "name": "Added from the directory.",
        "via": "`session`, `api_key`, or upstream's own word. A session does not mean a human.",
        "api_key_id": "The key that was used; its tracking id, not the key.",
        "ip": "Address of the session, as sent.",
        "user_agent": "Of the session.",
        "ja3": "TLS client fingerprint of the session.",
        "ja4": "TLS client fingerprint of the session, newer method.",
        "geo": "Where the address is believed to be.",
    },
    "Geo": {
        "country": "ISO 3166-1 alpha-2.",
        "region": "State or province.",
        "city": "City.",
        "asn": "Autonomous system number.",
        "as_name": "Who runs the autonomous system.",
        "latitude": "Degrees, north is positive.",
        "longitude": "Degrees, east is positive.",
    },
    "Project": {"id": "Upstream's id.", "name": "What the dashboard shows."},
    "Target": {
        "type": "What it is: `api_key`, `role`, `user`, `group`, `project` …",
        "id": "Upstream's id of it.",
        "name": "From the payload, or added from the directory.",
    },
}


def envelope_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of one line of `format: envelope`."""
    schema = msgspec.json.schema(_described())
    for name, words in _WORDS.items():
        for field, text in words.items():
            schema["$defs"][name]["properties"][field]["description"] = text
    envelope = schema["$defs"]["Envelope"]
    envelope["description"] = "An audit event and what is known about it."
    envelope["properties"]["schema"] = {"const": ENVELOPE_SCHEMA, "description": _WORDS["Envelope"]["schema"]}
    for time in ("time", "observed_at"):
        envelope["properties"][time]["format"] = "date-time"
    envelope["properties"]["severity"]["enum"] = list(SEVERITIES)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": ENVELOPE_SCHEMA, **schema}


def _described() -> type[msgspec.Struct]:
    """The envelope with plain types: msgspec cannot describe a field whose default is raw JSON."""
    fields: list[tuple[str, Any, Any]] = [
        (field.name, Any if field.type is msgspec.Raw else field.type, msgspec.field())
        for field in msgspec.structs.fields(Envelope)
    ]
    return msgspec.defstruct(Envelope.__name__, fields, kw_only=True)
