"""IBM QRadar's Log Event Extended Format 2.0: `LEEF:2.0|OpenAI|Audit Logs|v1|<type>|x09|key=value<tab>…`.

The format has no escape: what would end a value or a line becomes a space.
"""

from collections.abc import Mapping, Sequence

from streamer.catalog import SEVERITY_NUMBERS
from streamer.formats.line import sentence
from streamer.formats.subject import REPLACED_CONTROLS, Subject, ip_version, milliseconds, of_actor, payload
from streamer.model import Actor, Record

_IN_VALUE = {**REPLACED_CONTROLS, ord("\t"): " ", ord("\n"): " ", ord("\r"): " "}
_IN_HEADER = {**_IN_VALUE, ord("|"): "_"}

# Lengths, in characters.
_MAX_EVENT_ID = 255
_MAX_NAME, _MAX_TEXT, _MAX_PAYLOAD = 255, 1023, 4000


class LeefFormat:
    """One event, one line. `organizations`: source to organization id, which no event carries."""

    def __init__(self, organizations: Mapping[str, str]) -> None:
        self._organizations = organizations

    def encode(self, record: Record, /) -> bytes:
        subject = Subject(record)
        envelope = subject.envelope
        pairs = [
            # 13 digits need no devTimeFormat.
            f"{_header(envelope.type)}devTime={milliseconds(envelope.time):013d}",
            f"sev={SEVERITY_NUMBERS[envelope.severity].leef}",
            f"outcome={envelope.outcome}",
        ]
        _put(pairs, "cat", envelope.family)
        _put(pairs, "eventId", envelope.id, len(envelope.id))
        if envelope.outcome == "failure":
            code, message = subject.error
            _put(pairs, "reason", message or code)
        _put(pairs, "source", envelope.source)
        _put(pairs, "organizationId", self._organizations.get(envelope.source))
        _put(pairs, "msg", sentence(subject))
        if envelope.rules:
            _put(pairs, "rules", ",".join(envelope.rules))
        if envelope.project is not None:
            _put(pairs, "projectId", envelope.project.id)
            _put(pairs, "projectName", envelope.project.name)
        if envelope.actor is not None:
            pairs += _source(envelope.actor)
        _put_targets(pairs, subject)
        # Last, so that a receiver that cuts long lines cuts here.
        if (body := payload(envelope)) is not None:
            _put(pairs, "payload", body.decode(errors="replace"), _MAX_PAYLOAD)
        return "\t".join(pairs).encode("utf-8", "replace")


def _header(type: str) -> str:
    return f"LEEF:2.0|OpenAI|Audit Logs|v1|{_shown(type[:_MAX_EVENT_ID], _IN_HEADER)}|x09|"


@of_actor
def _source(actor: Actor) -> Sequence[str]:
    pairs: list[str] = []
    _put(pairs, "src" if ip_version(actor.ip) else "srcName", actor.ip)
    _put(pairs, "usrName", actor.email or actor.name or actor.id, _MAX_NAME)
    _put(pairs, "accountName", actor.id, _MAX_NAME)
    _put(pairs, "accountType", actor.type)
    _put(pairs, "apiKeyId", actor.api_key_id)
    _put(pairs, "userAgent", actor.user_agent)
    _put(pairs, "ja3", actor.ja3)
    _put(pairs, "ja4", actor.ja4)
    if actor.geo is not None:
        _put(pairs, "country", actor.geo.country)
    return pairs


def _put_targets(pairs: list[str], subject: Subject) -> None:
    if subject.user is not None or subject.group is not None:
        _put(pairs, "role", subject.role_name)
    if subject.group is not None:
        _put(pairs, "groupID", subject.group.id)
    if subject.user is not None:
        _put(pairs, "targetUserId", subject.user.id)
        _put(pairs, "targetUserName", subject.user.name)
    if subject.envelope.targets:
        target = subject.envelope.targets[0]
        _put(pairs, "resource", target.id)
        _put(pairs, "resourceName", target.name)
        _put(pairs, "resourceType", target.type)


def _put(pairs: list[str], key: str, value: str | None, limit: int = _MAX_TEXT) -> None:
    if value and (value := value.strip()[:limit].rstrip()):
        pairs.append(f"{key}={_shown(value, _IN_VALUE)}")


def _shown(text: str, replacements: Mapping[int, str]) -> str:
    # Translating costs ten times as much as seeing that there is nothing to translate.
    return text if text.isprintable() and "|" not in text else text.translate(replacements)
