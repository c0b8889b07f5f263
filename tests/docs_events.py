"""`python -m tests.docs_events`: writes `docs/events.md` from the catalogue; a test holds it up to date."""

from pathlib import Path

from streamer.catalog import FAMILIES, TYPES, EventType, Ocsf

PAGE = Path(__file__).resolve().parents[1] / "docs" / "events.md"

HEAD = """\
# The event types

All {types} types that are known, in {families} families. This page is made from the catalogue (`streamer/catalog/`) by
`make events`; `streamer types` prints the same facts for your terminal.

- **Severity** is where an event begins; rules may raise it.
- **Listing**: `tenant` types come in a list of their own, which `sources.*.listings` switches.
- **Since**: the first version of OpenAI's official Python SDK that has the type. {documented} types have a documented payload;
  of the others, marked ○, the payload passes through as it comes.
- **OCSF** 1.8.0: class and activity. Where a payload can move an event, the other place stands behind "or".
- **ECS** 9.4.0: `event.category` and `event.type`.

A type that is not here is not lost: it passes through whole, gets family, severity and classes by the words of its name, and is
counted in `streamer_unknown_types_total`.
"""

COLUMNS = ("Type", "Family", "What happened", "Severity", "Listing", "Since", "OCSF", "ECS")


def page() -> str:
    documented = sum(row.documented for row in TYPES.values())
    lines = [
        HEAD.format(types=len(TYPES), families=len(FAMILIES), documented=documented),
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *(f"| {' | '.join(_cells(row))} |" for row in TYPES.values()),
    ]
    return "\n".join(lines) + "\n"


def _cells(row: EventType) -> tuple[str, ...]:
    assert row.since is not None
    places = dict.fromkeys([_place(row.ocsf), *map(_place, row.ocsf_when.values())])
    return (
        f"`{row.type}`" + ("" if row.documented else " ○"),
        row.family,
        row.title,
        row.severity,
        row.listing,
        row.since,
        " or ".join(places),
        f"{', '.join(row.ecs.category)} / {', '.join(row.ecs.type)}",
    )


def _place(event: Ocsf) -> str:
    return f"{event.class_name} {event.class_uid}: {event.activity_name}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
