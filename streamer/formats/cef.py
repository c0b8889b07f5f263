"""ArcSight's Common Event Format: `CEF:0|OpenAI|Audit Logs|v1|<type>|<title>|<severity>|key=value …`.

The extension keys, their lengths and the escapes are those of the CEF Implementation Standard 25.1.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from streamer.catalog import SEVERITY_NUMBERS, lookup
from streamer.formats.line import sentence
from streamer.formats.subject import MAX_CACHED, REPLACED_CONTROLS, Subject, ip_version, milliseconds, of_actor, payload
from streamer.model import Actor, Outcome, Record, Severity

_IN_HEADER = {**REPLACED_CONTROLS, ord("\t"): " ", ord("\n"): " ", ord("\r"): " ", ord("\\"): "\\\\", ord("|"): "\\|"}
_IN_VALUE = {
    **REPLACED_CONTROLS,
    ord("\t"): "\t",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\\"): "\\\\",
    ord("="): "\\=",
}

# Lengths, in characters before escaping.
_MAX_CLASS_ID, _MAX_NAME = 1023, 512
_MAX_EXTERNAL_ID = 40
_MAX_SHORT, _MAX_HOST, _MAX_EXTERNAL_DEVICE, _MAX_TEXT, _MAX_CUSTOM_STRING = 63, 100, 255, 1023, 4000


class CefFormat:
    """One event, one line. `organizations`: source to organization id, which no event carries."""

    def __init__(self, organizations: Mapping[str, str]) -> None:
        self._organizations = organizations

    def encode(self, record: Record, /) -> bytes:
        subject = Subject(record)
        envelope = subject.envelope
        header = _header if len(envelope.type) <= MAX_CACHED else _header.__wrapped__
        begin, kind = header(envelope.type, envelope.severity, envelope.outcome, envelope.family)
        pairs = [f"{begin}rt={milliseconds(envelope.time)}", kind]
        if envelope.outcome == "failure":
            code, message = subject.error
            _put(pairs, "reason", message or code)
        _put(pairs, "dvchost", envelope.source, _MAX_HOST)
        _put(pairs, "deviceExternalId", self._organizations.get(envelope.source), _MAX_EXTERNAL_DEVICE)
        _put(pairs, "msg", sentence(subject))
        _put_ids(pairs, subject)
        if envelope.actor is not None:
            pairs += _source(envelope.actor)
        _put_targets(pairs, subject)
        # Last, so that a receiver that cuts long lines cuts here.
        if (body := payload(envelope)) is not None:
            _put_custom(pairs, "cs6", "payload", body.decode(errors="replace"))
        return " ".join(pairs).encode("utf-8", "replace")


@lru_cache(maxsize=1024)
def _header(type: str, severity: Severity, outcome: Outcome, family: str) -> tuple[str, str]:
    """What goes before the time, and what follows it: both are the same for every event of the type."""
    class_id = type[:_MAX_CLASS_ID].translate(_IN_HEADER)
    name = lookup(type).title[:_MAX_NAME].translate(_IN_HEADER)
    pairs = [f"outcome={outcome}"]
    _put(pairs, "act", type, _MAX_SHORT)
    _put(pairs, "cat", family)
    return f"CEF:0|OpenAI|Audit Logs|v1|{class_id}|{name}|{SEVERITY_NUMBERS[severity].cef}|", " ".join(pairs)


def _put_ids(pairs: list[str], subject: Subject) -> None:
    """An id that is cut is no id: one that is too long for `externalId` takes `cs1`, and the project's id moves."""
    envelope = subject.envelope
    project_id = envelope.project.id if envelope.project is not None else None
    if len(envelope.id) > _MAX_EXTERNAL_ID:
        _put_custom(pairs, "cs1", "eventId", envelope.id)
        _put_custom(pairs, "flexString1", "projectId", project_id, _MAX_TEXT)
        return
    _put(pairs, "externalId", envelope.id)
    _put_custom(pairs, "cs1", "projectId", project_id)
    if envelope.rules:
        _put_custom(pairs, "flexString1", "rules", ",".join(envelope.rules), _MAX_TEXT)


@of_actor
def _source(actor: Actor) -> Sequence[str]:
    pairs: list[str] = []
    _put(pairs, "suser", actor.email or actor.name)
    _put(pairs, "sourceServiceName" if actor.type == "service_account" else "suid", actor.id)
    _put(pairs, "requestClientApplication", actor.user_agent)
    match ip_version(actor.ip):
        case 4:
            _put(pairs, "src", actor.ip)
        case 6:
            _put_custom(pairs, "c6a2", "Source IPv6 Address", actor.ip)
        case _:
            _put(pairs, "shost", actor.ip)
    _put_custom(pairs, "cs2", "apiKeyId", actor.api_key_id)
    _put_custom(pairs, "cs3", "ja3", actor.ja3)
    if actor.geo is not None:
        _put_custom(pairs, "cs4", "country", actor.geo.country)
    return pairs


def _put_targets(pairs: list[str], subject: Subject) -> None:
    if subject.user is not None or subject.group is not None:
        _put(pairs, "dpriv", subject.role_name)
    if subject.user is not None:
        _put(pairs, "duid", subject.user.id)
        _put(pairs, "duser", subject.user.name)
    if subject.envelope.targets:
        target = subject.envelope.targets[0]
        _put_custom(pairs, "cs5", "targetId", target.id)
        _put_custom(pairs, "flexString2", "targetName", target.name, _MAX_TEXT)


def _put_custom(pairs: list[str], key: str, label: str, value: str | None, limit: int = _MAX_CUSTOM_STRING) -> None:
    if value and not value.isspace():
        pairs.append(f"{key}Label={label}")
        _put(pairs, key, value, limit)


def _put(pairs: list[str], key: str, value: str | None, limit: int = _MAX_TEXT) -> None:
    if not value or not (value := value.strip()[:limit].rstrip()):
        return
    # Translating costs ten times as much as seeing that there is nothing to translate.
    if not value.isprintable() or "=" in value or "\\" in value:
        value = value.translate(_IN_VALUE)
    pairs.append(f"{key}={value}")
