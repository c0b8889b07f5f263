"""The figures of a long run as one SVG: a small chart each, one below the other, over the same minutes."""

from collections.abc import Sequence
from html import escape

from tests.soak.figures import FIGURES, WARM_UP, Figure, Sample

WIDTH, HEIGHT, LEFT, TOP, GAP = 640, 90, 110, 34, 26


def picture(samples: Sequence[Sample]) -> str:
    total = TOP + len(FIGURES) * (HEIGHT + GAP) + 20
    longest = samples[-1].second or 1.0
    warm = LEFT + WIDTH * WARM_UP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 60} {total}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" fill="#333">{longest / 60:.0f} minutes, {samples[-1].delivered:,} events; grey: warm-up</text>',
        f'<rect x="{LEFT}" y="{TOP - 6}" width="{warm - LEFT:.0f}" height="{total - TOP - 20}" fill="#f0f0f0"/>',
    ]
    for number, figure in enumerate(FIGURES):
        parts += _chart(samples, figure, TOP + number * (HEIGHT + GAP), longest)
    for quarter in range(5):
        x = LEFT + WIDTH * quarter / 4
        parts.append(
            f'<text x="{x:.0f}" y="{total - 8}" text-anchor="middle" fill="#666">{longest * quarter / 240:.0f} min</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _chart(samples: Sequence[Sample], figure: Figure, top: int, longest: float) -> list[str]:
    """From zero to the highest value: what is flat looks flat, and what is small looks small."""
    highest = max(figure.value(one) for one in samples) or 1.0
    points = " ".join(
        f"{LEFT + WIDTH * one.second / longest:.1f},{top + HEIGHT * (1 - figure.value(one) / highest):.1f}"
        for one in samples
    )
    return [
        f'<text x="{LEFT - 10}" y="{top + HEIGHT / 2:.0f}" text-anchor="end" fill="#333">{escape(figure.name)}</text>',
        f'<text x="{LEFT + WIDTH + 6}" y="{top + 10}" fill="#666">{highest:.3g} {figure.unit.replace("open", "").replace("running", "")}</text>',
        f'<line x1="{LEFT}" y1="{top + HEIGHT}" x2="{LEFT + WIDTH}" y2="{top + HEIGHT}" stroke="#bbb"/>',
        f'<polyline points="{points}" fill="none" stroke="#2563eb" stroke-width="1.2"/>',
    ]
