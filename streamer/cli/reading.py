"""tail, explain: events for human eyes, from the journal."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.options import ConfigFile, load_config

if TYPE_CHECKING:
    from rich.text import Text

    from streamer.model import Geo, Record

POLL_S = 0.5
FORMATS = ("envelope", "raw", "ocsf", "ecs", "cef", "leef")

WhereText = Annotated[
    str, typer.Option("--where", help="As in a sink's `where`: '{min_severity: high}' or '{types: [\"role.*\"]}'.")
]


def tail(
    config: ConfigFile,
    where: WhereText = "",
    last: Annotated[int, typer.Option("-n", "--last", help="Begin with so many of the newest events.")] = 20,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f/-F", help="Go on as events come.")] = True,
) -> None:
    """Events as they come, one readable line each. When, how severe, who did what to whom, from where."""
    from rich.console import Console

    from streamer.journal.operator import open_operator
    from streamer.routing import compile_where

    wanted = compile_where(_parse_where(where)) or (lambda _: True)
    console = Console(highlight=False, soft_wrap=True)
    with open_operator(load_config(config).state) as operator:
        after = max(operator.head() - last, 0)
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
    """One event in words and in every format. What enriched it, and which rules looked at it."""
    from rich.console import Console

    from streamer.config import organizations_of
    from streamer.errors import StreamerError
    from streamer.formats import make_format
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
    organizations = organizations_of(loaded)
    for record in records:
        console.print(line(record))
        console.print()
        for name, said in _facts(record, loaded.enrich.rules):
            console.print(f"{name:10}", style="bold", end="")
            console.print(said)
        for name in FORMATS:
            console.print(f"\n{name}", style="bold")
            written = make_format(name, organizations).encode(record).decode("utf-8", "replace")  # type: ignore[arg-type]  # a constant
            # Byte for byte as a sink gets it, but what could fool a terminal is shown as its number there. Not by rich: it expands tabs.
            typer.echo(visible(written, len(written)) if console.is_terminal else written)


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
