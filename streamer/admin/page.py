"""The status page as HTML text: whole for a browser without scripts, and in sections that a script replaces one by one.

Whatever comes from events, from the other side's answers or from the configuration passes `escape` here or in `drawing`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import Any
from urllib.parse import urlencode

from streamer.admin.drawing import charts, flow, journal_box, listing_box, sink_box
from streamer.admin.history import Sample
from streamer.admin.latest import SHOWN, Filter
from streamer.admin.verdict import ago, plural, trouble, verdict
from streamer.formats.line import Span, plain, render, visible
from streamer.model import SEVERITIES, Record, Seq, from_epoch
from streamer.ports import DeadLetter

Rows = dict[str, Any]
"""What `/status` answers."""

MAX_REASON = 600
LINES_REMEMBERED = 512
"""An event is written once, however many pages show it and for however long."""


def document(title: str, body: str, *, live: str = "") -> str:
    """`live`: where a script gets news of the sections."""
    script = f'<script src="/page.js" data-events="{escape(live)}" defer></script>' if live else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<title>{escape(title)}</title><link rel="icon" href="/icon.svg"><link rel="stylesheet" href="/page.css">{script}'
        f'</head><body><a class="skip" href="#main">to the content</a>{body}</body></html>'
    )


def overview(sections: Mapping[str, str], wanted: Filter, rows: Rows, configuration: str) -> str:
    """The page at `/`."""
    parts = "".join(
        f'<section aria-labelledby="h-{name}"><h2 id="h-{name}">{heading}</h2>{before}'
        f'<div id="{name}">{sections[name]}</div></section>'
        for name, heading, before in (
            ("flow", "Flow", ""),
            ("charts", "The last hour", ""),
            ("events", "Latest events", _filter_form(wanted)),
            ("dead", "Dead letters", ""),
            ("names", "What the directory knows", ""),
        )
    )
    body = (
        f'<header><span class="brand">openai-audit-streamer <small>{escape(rows["version"])}</small></span>'
        '<span id="link" class="link" role="status"></span></header><main id="main">'
        f'<div id="verdict" aria-live="polite">{sections["verdict"]}</div>{parts}'
        '<section aria-labelledby="h-configuration"><h2 id="h-configuration">Configuration in force</h2>'
        f"<details><summary>as YAML, secrets left out</summary><pre>{_printable(configuration)}</pre></details></section>"
        '</main><footer><a href="/metrics">metrics</a> <a href="/status">status as JSON</a> '
        '<a href="/readyz">readiness</a></footer>'
    )
    query = urlencode({"q": wanted.text, "severity": wanted.severity})
    return document(title(rows), body, live=f"/events?{query}")


def title(rows: Rows) -> str:
    return f"{'✗' if trouble(rows) else '✓'} streamer"


def verdict_section(rows: Rows) -> str:
    wrong = trouble(rows)
    mood = "bad" if wrong else "good" if all(row["state"] == "live" for row in rows["listings"]) else "busy"
    dead = sum(row["dead_letters"] for row in rows["sinks"])
    reasons = "".join(f"<li>{escape(visible(reason, MAX_REASON))}</li>" for reason in wrong)
    notes = f'<p class="note">{dead:,} dead {plural("letter", dead)} since the start.</p>' if dead else ""
    return (
        f'<div class="verdict {mood}"><h1>{escape(verdict(rows))}</h1>'
        + (f"<ul>{reasons}</ul>" if wrong else "")
        + notes
        + f'<p class="note">Running for {ago(rows["now"], rows["started_at"])}.</p></div>'
    )


def flow_section(rows: Rows, listing_rates: Mapping[tuple[str, str], float], sink_rates: Mapping[str, float]) -> str:
    now = rows["now"]
    return flow(
        [listing_box(row, listing_rates.get((row["source"], row["listing"]), 0.0), now) for row in rows["listings"]],
        journal_box(rows["journal"]),
        [sink_box(row, sink_rates.get(row["sink"], 0.0), now) for row in rows["sinks"]],
    )


def charts_section(samples: Sequence[Sample]) -> str:
    return f'<div class="charts">{charts(list(samples))}</div>'


def events_section(found: Sequence[Record], wanted: Filter, problem: str = "") -> str:
    """Newest first."""
    if problem:
        return f'<p class="empty">Events cannot be read: {escape(visible(problem, MAX_REASON))}</p>'
    if not found:
        return f'<p class="empty">{"No event yet." if wanted.all else "No recent event is like that."}</p>'
    items = "".join([_event_line(record.seq, record.line) for record in reversed(found)])
    return f'<ol class="events">{items}</ol>'


@lru_cache(maxsize=LINES_REMEMBERED)
def _event_line(seq: Seq, line: bytes) -> str:
    spans = render(Record(seq, line))
    return f'<li><a id="event-{seq}" href="/event/{seq}" aria-label="{escape(plain(spans))}">{_spans(spans)}</a></li>'


def _spans(spans: Sequence[Span]) -> str:
    # The severity's column is as wide as the style sheet says, not as its spaces.
    return "".join(
        f'<span class="{kind}">{escape(text.strip() if kind in SEVERITIES else text)}</span>' for text, kind in spans
    )


def _filter_form(wanted: Filter) -> str:
    options = "".join(
        f'<option value="{s}"{" selected" if s == wanted.severity else ""}>{"all" if s == SEVERITIES[0] else s + " or graver"}</option>'
        for s in SEVERITIES
    )
    clear = "" if wanted.all else '<a href="/#h-events">show all</a>'
    return (
        '<form class="filter" method="get" action="/#h-events" role="search">'
        f'<label>containing <input type="search" name="q" value="{escape(wanted.text)}" maxlength="200" '
        'placeholder="an id, a name, a type, an address" autocomplete="off" spellcheck="false"></label>'
        f'<label>severity <select name="severity">{options}</select></label><button>filter</button>{clear}</form>'
        f'<p class="note">The newest {SHOWN}, newest first; each leads to the event in every format.</p>'
    )


def dead_section(letters: Sequence[DeadLetter], problem: str = "") -> str:
    if problem:
        return f'<p class="empty">Dead letters cannot be read: {escape(visible(problem, MAX_REASON))}</p>'
    if not letters:
        return '<p class="empty">None: no sink has refused an event for good.</p>'
    rows = "".join(
        f"<tr><td>{letter.number}</td><td>{from_epoch(letter.at):%Y-%m-%d %H:%M:%S}Z</td>"
        f"<td>{escape(visible(letter.sink))}</td><td>{escape(visible(letter.type))}</td>"
        f"<td>{escape(visible(letter.id))}</td><td>{letter.attempts}</td>"
        f"<td>{escape(visible(letter.reason, MAX_REASON))}</td></tr>"
        for letter in letters
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("no.", "at", "sink", "type", "event", "tries", "why"))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="dead letters"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="note">The newest {len(letters)}; '
        "<code>streamer dlq</code> shows, delivers again and discards them.</p>"
    )


def names_section(rows: Rows) -> str:
    if not rows["directories"]:
        return '<p class="empty">Names are not looked up: <code>enrich.directory</code> is off.</p>'
    shown = []
    for row in rows["directories"]:
        failed = "".join(
            f"<li>{escape(visible(name))}: {escape(visible(why, MAX_REASON))}</li>"
            for name, why in row["failed"].items()
        )
        read = f"read {ago(rows['now'], row['last_success'])} ago" if row["last_success"] else "not read yet"
        shown.append(
            f"<p><b>{escape(visible(row['source']))}</b>: {row['entries']:,} names, {read}.</p>"
            + (f'<ul class="failed">{failed}</ul>' if failed else "")
        )
    return "".join(shown)


def detail(seq: int, spans: Sequence[Span], formats: Sequence[tuple[str, str]], head: int) -> str:
    """The page of one event."""
    blocks = "".join(
        f'<details{" open" if n == 0 else ""}><summary>{name}</summary><pre tabindex="0">{escape(text)}</pre></details>'
        for n, (name, text) in enumerate(formats)
    )
    older = f'<a rel="prev" href="/event/{seq - 1}">older</a>' if seq > 1 else ""
    newer = f'<a rel="next" href="/event/{seq + 1}">newer</a>' if seq < head else ""
    body = (
        f'<header><a class="brand" href="/#h-events">← all events</a><nav>{older} {newer}</nav></header><main id="main">'
        f'<h1 class="sentence">{_spans(spans)}</h1><p class="note">Record {seq} of the journal.</p>{blocks}</main>'
    )
    return document(f"event {seq} · streamer", body)


def message(title: str, text: str, *, ask: bool = False) -> str:
    """A page that says one thing. `ask`: for the token."""
    form = (
        '<form class="filter" method="get" action="/"><label>token <input type="password" name="token" '
        'autocomplete="current-password" autofocus></label><button>show</button></form>'
        if ask
        else ""
    )
    return document(
        f"{title} · streamer",
        f'<main id="main"><div class="verdict busy"><h1>{escape(title)}</h1><p>{escape(text)}</p>{form}</div></main>',
    )


def _printable(text: str) -> str:
    return "\n".join(escape(visible(line, 2000)) for line in text.splitlines())
