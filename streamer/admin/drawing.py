"""Pictures as SVG text: the flow from listings through the journal to sinks, and the charts. Every text is escaped here."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any, Literal

from streamer.admin.history import EVERY_S, Sample
from streamer.admin.verdict import ago, progress, span
from streamer.formats.line import visible
from streamer.model import SEVERITIES

Mood = Literal["good", "busy", "bad"]

MOODS: dict[str, Mood] = {"live": "good", "delivering": "good", "idle": "good", "failing": "bad", "held": "bad"}
MAX_BOXES = 12
"""On either side; more are counted in one more box, those in trouble are drawn first."""
BOX_WIDTH, LINE, PAD, GAP = 280, 19, 12, 14
CHARACTERS = 38
"""That fit into a box."""
MAX_REASON_LINES = 3
SPAN = 110
"""Between two columns."""


@dataclass(frozen=True)
class Box:
    title: str
    mood: Mood
    lines: list[str]
    rate: float = 0.0
    why: str = ""
    why_lines: list[str] = field(default_factory=list)

    @property
    def height(self) -> int:
        return 2 * PAD + LINE * (1 + len(self.lines) + len(self.why_lines)) - 4


def per_second(rate: float) -> str:
    if rate >= 10:
        return f"{rate:,.0f}/s"
    return f"{rate:.1f}/s" if rate >= 0.1 or not rate else f"{rate * 60:.1f}/min"


def size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def _box(title: str, mood: Mood, lines: list[str], rate: float, error: str | None) -> Box:
    why = visible(error or "", 600)
    wrapped = textwrap.wrap(why, CHARACTERS, max_lines=MAX_REASON_LINES, placeholder=" …")
    return Box(visible(title, CHARACTERS - 4), mood, lines, rate, why, wrapped)


def listing_box(row: dict[str, Any], rate: float, now: float) -> Box:
    mood = MOODS.get(row["state"], "busy")
    late = f", {row['late']:,} late" if row["late"] else ""
    return _box(
        f"{row['source']}/{row['listing']}",
        mood,
        [
            f"{progress(row)} · {per_second(rate)} · {row['received']:,} in all{late}",
            f"read up to {ago(now, row['watermark'])} ago" if row["watermark"] else "not read yet",
        ],
        rate,
        row["error"],
    )


def sink_box(row: dict[str, Any], rate: float, now: float) -> Box:
    dead = f" · {row['dead_letters']:,} dead" if row["dead_letters"] else ""
    behind = f"{row['backlog']:,} waiting, oldest {ago(now, row['oldest_at'])}" if row["backlog"] else "nothing waiting"
    return _box(
        f"{row['sink']} ({row['type']})" if row["type"] != row["sink"] else row["sink"],
        MOODS.get(row["state"], "busy"),
        [f"{row['state']} · {per_second(rate)} · {row['delivered']:,} in all", behind + dead],
        rate,
        row["error"],
    )


def journal_box(row: dict[str, Any]) -> Box:
    share = row["bytes"] / row["max_bytes"] if row["max_bytes"] else 0
    return _box(
        "journal",
        "bad" if row["full"] else "busy" if share > 0.8 else "good",
        [f"{row['records']:,} events · {size(row['bytes'])}", f"{share:.0%} of {size(row['max_bytes'])}"],
        0.0,
        "full: intake waits until a sink has taken more" if row["full"] else None,
    )


def shortened(boxes: Sequence[Box]) -> list[Box]:
    """As many as can be looked at."""
    if len(boxes) <= MAX_BOXES:
        return list(boxes)
    ranked = sorted(boxes, key=lambda box: ("bad", "busy", "good").index(box.mood))
    rest = ranked[MAX_BOXES - 1 :]
    mood = rest[0].mood
    rate = sum(box.rate for box in rest)
    return [*ranked[: MAX_BOXES - 1], Box(f"{len(rest)} more", mood, [f"{per_second(rate)} together"], rate)]


# --- the flow --------------------------------------------------------------------------------------------------------


def flow(listings: Sequence[Box], journal: Box, sinks: Sequence[Box]) -> str:
    """Side by side for wide screens and one below the other for narrow ones; the style sheet shows one of them."""
    left, right = shortened(listings), shortened(sinks)
    return _wide(left, journal, right) + _narrow(left, journal, right)


def _column(boxes: Sequence[Box]) -> int:
    return sum(box.height for box in boxes) + GAP * max(len(boxes) - 1, 0)


def _wide(left: Sequence[Box], journal: Box, right: Sequence[Box]) -> str:
    height = max(_column(left), _column(right), journal.height)
    middle_x, right_x = BOX_WIDTH + SPAN, 2 * (BOX_WIDTH + SPAN)
    middle, parts = height / 2, [_draw(journal, middle_x, (height - journal.height) / 2)]
    y = (height - _column(left)) / 2
    for box in left:
        parts += [_draw(box, 0, y), _pipe(box, BOX_WIDTH, y + box.height / 2, middle_x, middle)]
        y += box.height + GAP
    y = (height - _column(right)) / 2
    for box in right:
        parts += [
            _draw(box, right_x, y),
            _pipe(box, middle_x + BOX_WIDTH, middle, right_x, y + box.height / 2),
        ]
        y += box.height + GAP
    return _picture("wide", right_x + BOX_WIDTH, height, parts)


def _narrow(left: Sequence[Box], journal: Box, right: Sequence[Box]) -> str:
    gutter, y, parts, at = 26, 0.0, [], {}
    for box in (*left, journal, *right):
        at[id(box)] = y
        parts.append(_draw(box, gutter, y))
        y += box.height + GAP
    middle = at[id(journal)] + journal.height / 2
    for boxes in (left, right):
        for box in boxes:
            centre = at[id(box)] + box.height / 2
            ends = (centre, middle) if boxes is left else (middle, centre)
            parts.append(_bend(box, gutter, *ends))
    return _picture("narrow", BOX_WIDTH + gutter, y - GAP, parts)


def _picture(name: str, width: float, height: float, parts: list[str]) -> str:
    return (
        f'<svg class="flow {name}" role="img" aria-label="listings, journal and sinks" '
        f'viewBox="-2 -2 {width + 4:g} {height + 4:g}">' + "".join(parts) + "</svg>"
    )


def _draw(box: Box, x: float, y: float) -> str:
    rows = [f'<text class="title" x="{PAD + 16}" y="{PAD + 11}">{escape(box.title)}</text>']
    line = PAD + 11
    for text, kind in [*((t, "said") for t in box.lines), *((t, "why") for t in box.why_lines)]:
        line += LINE
        rows.append(f'<text class="{kind}" x="{PAD}" y="{line}">{escape(text)}</text>')
    return (
        f'<svg class="box {box.mood}" x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{box.height}">'
        + (f"<title>{escape(box.why)}</title>" if box.why else "")
        + f'<rect class="frame" x="1" y="1" width="{BOX_WIDTH - 2}" height="{box.height - 2}" rx="8"/>'
        + f'<circle class="lamp" cx="{PAD + 5}" cy="{PAD + 7}" r="5"/>'
        + "".join(rows)
        + "</svg>"
    )


def _stroke(box: Box) -> str:
    width = min(1.5 + box.rate**0.5 / 4, 9)
    return f'class="pipe {box.mood}{" moving" if box.rate else ""}" stroke-width="{width:.1f}"'


def _pipe(box: Box, x1: float, y1: float, x2: float, y2: float) -> str:
    half = (x1 + x2) / 2
    return f'<path {_stroke(box)} d="M{x1:g} {y1:g}C{half:g} {y1:g} {half:g} {y2:g} {x2:g} {y2:g}"/>'


def _bend(box: Box, x: float, y1: float, y2: float) -> str:
    return f'<path {_stroke(box)} d="M{x:g} {y1:g}H12V{y2:g}H{x:g}"/>'


# --- charts ----------------------------------------------------------------------------------------------------------

HEIGHT = 80
SAMPLES_A_BAR = 6
LEAST_WIDTH = 60
"""A sample is one unit wide; a young daemon's charts show ten minutes, then as much as there is."""


def _width(samples: int) -> int:
    return max(samples, LEAST_WIDTH)


def _rates(samples: Sequence[Sample], counts: Sequence[int]) -> list[float]:
    pairs = zip(samples, samples[1:], counts, counts[1:], strict=False)
    return [0.0, *(max(b - a, 0) / max(after.at - before.at, 1.0) for before, after, a, b in pairs)]


def charts(samples: Sequence[Sample]) -> str:
    received = _rates(samples, [s.received for s in samples])
    delivered = _rates(samples, [s.delivered for s in samples])
    waiting = [float(s.backlog) for s in samples]
    oldest = [s.oldest_s for s in samples]
    return (
        _chart("received", received, per_second)
        + _chart("delivered", delivered, per_second)
        + _chart("waiting for sinks", waiting, lambda n: f"{n:,.0f}")
        + _chart("oldest waiting", oldest, span)
        + _severities(samples)
    )


def _figure(name: str, said: str, picture: str, width: int, extra: str = "") -> str:
    minutes = f"{width * EVERY_S / 60:.0f} min"
    return (
        f'<figure class="chart{extra}"><figcaption><span>{name}</span><b>{said}</b></figcaption>'
        f'<svg viewBox="0 0 {width} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{name}: {escape(said)}">'
        f'{picture}</svg><div class="axis"><span>{minutes} ago</span><span>now</span></div></figure>'
    )


def _chart(name: str, values: list[float], show: Any) -> str:
    width = _width(len(values))
    top, first = max([*values, 1e-9]), width - len(values)
    points = [f"{first + n:g} {HEIGHT - 2 - (HEIGHT - 6) * value / top:.1f}" for n, value in enumerate(values)]
    line = "L".join(points)
    picture = (
        f'<path class="area" d="M{first} {HEIGHT}L{line}L{width - 1} {HEIGHT}Z"/>'
        f'<path class="curve" d="M{line}{"" if len(points) > 1 else "h1"}"/>'
    )
    return _figure(name, f"{show(values[-1])}, at most {show(max(values))}", picture, width)


def _severities(samples: Sequence[Sample]) -> str:
    """Bars of a minute, the gravest on top; the height is a square root, so that one grave event among many is seen."""
    width, newest = _width(len(samples)), len(samples) - 1
    marks = [samples[n] for n in sorted({0, *range(newest, 0, -SAMPLES_A_BAR)})]
    new = [[max(b.severities.get(s, 0) - a.severities.get(s, 0), 0) for s in SEVERITIES] for a, b in pairwise(marks)]
    top = max([sum(counts) for counts in new if sum(counts)], default=1) ** 0.5
    paths = {severity: "" for severity in SEVERITIES}
    for n, counts in enumerate(reversed(new), 1):
        shown = [max((HEIGHT - 4) * (count**0.5) / top / 2, 2.0) if count else 0.0 for count in counts]
        scale = min(1.0, HEIGHT / sum(shown)) if sum(shown) else 1.0
        y = float(HEIGHT)
        for severity, part in zip(SEVERITIES, shown, strict=True):
            if part:
                y -= part * scale
                paths[severity] += f"M{width - n * SAMPLES_A_BAR} {y:.1f}h{SAMPLES_A_BAR - 1}v{part * scale:.1f}h-5z"
    picture = "".join(f'<path class="bar {severity}" d="{d}"/>' for severity, d in paths.items() if d)
    sums = [sum(counts[n] for counts in new) for n in range(len(SEVERITIES))]
    said = ", ".join(
        f"{count:,} {name}" for name, count in zip(SEVERITIES, sums, strict=True) if count and name != "informational"
    )
    legend = "".join(f'<span class="key {s}">{s}</span>' for s in SEVERITIES)
    return _figure("severity by minute", said or "nothing above informational", picture, width, " severity").replace(
        "</figure>", f'<div class="legend">{legend}</div></figure>'
    )
