"""tail, explain: events for human eyes, from the journal."""

import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.options import ConfigFile, load_config

if TYPE_CHECKING:
    from rich.text import Text

    from streamer.config import Config, FormatName
    from streamer.model import Geo, Record

POLL_S = 0.5
FORMATS: tuple["FormatName", ...] = ("envelope", "raw", "ocsf", "ecs", "cef", "leef")

WhereText = Annotated[
    str, typer.Option("--where", help="As in a sink's `where`: '{min_severity: high}' or '{types: [\"role.*\"]}'.")
]


LOOK_BACK = 100_000
"""Events among which the newest that `tail --where` takes are looked for: about a second."""


def tail(
    config: ConfigFile,
    where: WhereText = "",
    last: Annotated[
        int, typer.Option("-n", "--last", help="Begin with so many of the newest events that --where takes.")
    ] = 20,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f/-F", help="Go on as events come.")] = True,
) -> None:
    """Events as they come, one readable line each. When, how severe, who did what to whom, from where."""
    from rich.console import Console

    from streamer.journal.operator import open_operator
    from streamer.routing import compile_where

    wanted = compile_where(_parse_where(where)) or (lambda _: True)
    console = Console(highlight=False, soft_wrap=True)
    with open_operator(load_config(config).state) as operator:
        head = operator.head()
        after = max(head - (LOOK_BACK if where else last), 0)
        newest: deque[Record] = deque(maxlen=last)
        while after < head and (records := operator.records(after)):
            after = records[-1].seq
            newest.extend(record for record in records if wanted(record.envelope))
        for record in newest:
            console.print(line(record))
        while True:
            records = operator.records(after)
            for record in records:
                after = record.seq
                if wanted(record.envelope):
                    console.print(line(record))
            if not records:
                if not follow:
                    return
                time.sleep(POLL_S)


def _parse_where(text: str):  # type: ignore[no-untyped-def]  # Where, imported only when needed
    import yaml
    from pydantic import ValidationError

    from streamer.config import Where
    from streamer.errors import ConfigError

    try:
        return Where.model_validate(yaml.safe_load(text) or {})
    except (yaml.YAMLError, ValidationError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise ConfigError(f"--where: {said}; write it as in a sink, like {{min_severity: high}}") from None


def line(record: "Record") -> "Text":
    """One event; data is text here, never markup."""
    from rich.text import Text

    from streamer.formats.line import STYLES, render

    text = Text()
    for part, kind in render(record):
        text.append(part, STYLES[kind])
    return text


def explain(config: ConfigFile, event_id: Annotated[str, typer.Argument(help="Upstream's id.")]) -> None:
    """One event as each sink gets it, and why. In words, and in the formats that no sink has; what enriched it, and which rules looked at it."""
    from rich.console import Console

    from streamer.errors import StreamerError
    from streamer.formats.line import visible
    from streamer.journal.operator import open_operator

    loaded = load_config(config)
    with open_operator(loaded.state) as operator:
        records = operator.find(event_id)
    if not records:
        raise StreamerError(
            f"no event {event_id} in the journal; it may be older than journal.keep: look into an archive"
        )
    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
    for record in records:
        console.print(line(record))
        console.print()
        for name, said in _facts(record, loaded.enrich.rules):
            console.print(f"{name:10}", style="bold", end="")
            console.print(said)
        for heading, written in _written(record, loaded):
            console.print(f"\n{heading}", style="bold")
            # Byte for byte as a sink gets it, but what could fool a terminal is shown as its number there. Not by rich: it expands tabs.
            typer.echo(visible(written, len(written)) if console.is_terminal else written)


def _written(record: "Record", config: "Config") -> Iterator[tuple[str, str]]:
    """(heading, text): what each sink gets, once where several get the same, and the event in the formats that none has."""
    from streamer.config import SinkOptions, one_secret, organizations_of
    from streamer.formats import make_format
    from streamer.routing import compile_redaction, compile_where

    organizations = organizations_of(config)
    takers: dict[tuple[str, str | None], list[str]] = {}
    for name, options in config.sinks.items():
        where = compile_where(options.where)
        written: str | None = None
        if where is None or where(record.envelope):
            secret = one_secret(f"sinks.{name}.redact_key", options.redact_key, options.redact_key_file)
            redact = compile_redaction(options.redact, secret.reveal().encode() if secret else None, f"sinks.{name}")
            encode = make_format(options.format, organizations, options.ocsf_version, options.event).encode
            written = encode(redact(record) if redact is not None else record).decode("utf-8", "replace")
        version = f" {options.ocsf_version}" if options.format == "ocsf" else ""
        takers.setdefault((f"{options.format}{version}", written), []).append(name)
    for (form, text), names in takers.items():
        sinks = f"sink {names[0]}" if len(names) == 1 else f"sinks {', '.join(names)}"
        yield (f"{form}, {sinks}", text) if text is not None else (f"{form}, not for {sinks}", "left out by `where`")
    taken = {options.format for options in config.sinks.values()}
    for name in FORMATS:
        if name not in taken:
            version = f" {SinkOptions().ocsf_version}" if name == "ocsf" else ""
            yield (
                f"{name}{version}, no sink",
                make_format(name, organizations).encode(record).decode("utf-8", "replace"),
            )


def _facts(record: "Record", rules) -> list[tuple[str, str]]:  # type: ignore[no-untyped-def]  # a path or None
    from streamer.enrich.rules import load_rules
    from streamer.formats.line import visible

    envelope = record.envelope
    actor = envelope.actor
    looked = load_rules(rules).engine().looks_at(envelope.type)
    return [
        ("place", f"record {record.seq} of the journal, {envelope.source}/{envelope.listing}"),
        ("seen", f"{envelope.observed_at.isoformat()}" + (", late" if envelope.late else "")),
        ("known", "type and every field" if envelope.known else "not everything: see `streamer types`"),
        (
            "actor",
            visible(f"{actor.name or actor.email or actor.id} ({actor.type}, via {actor.via})") if actor else "unknown",
        ),
        ("targets", ", ".join(visible(f"{t.type} {t.name or t.id}") for t in envelope.targets) or "none"),
        (
            "project",
            visible(f"{envelope.project.name or envelope.project.id}") if envelope.project else "none",
        ),
        ("geo", _place(actor.geo) if actor and actor.geo else "none"),
        ("labels", ", ".join(visible(f"{k}={v}") for k, v in envelope.labels.items()) or "none"),
        ("matched", ", ".join(envelope.rules) or "no rule"),
        ("looked", ", ".join(name for name in looked if name not in envelope.rules) or "no other rule"),
        ("severity", envelope.severity + (f", tags {', '.join(envelope.tags)}" if envelope.tags else "")),
    ]


def _place(geo: "Geo") -> str:
    from streamer.formats.line import visible

    number = None if geo.asn is None else f"AS{geo.asn}"
    return visible(", ".join(part for part in (geo.city, geo.region, geo.country, number, geo.as_name) if part))
