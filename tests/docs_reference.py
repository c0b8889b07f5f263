"""`python -m tests.docs_reference`: writes the reference pages (configuration, metrics, command line, envelope) from the code; a test
holds them up to date."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer.main

from streamer.cli.main import app
from streamer.cli.reference import configuration_schema
from streamer.config import show_duration, show_size
from streamer.decode import to_envelope
from streamer.model import SourceName, encode_envelope, from_epoch
from streamer.schema import envelope_schema
from streamer.simulator.options import SimulatorOptions
from streamer.simulator.upstream import Upstream
from streamer.telemetry import Telemetry

DOCS = Path(__file__).resolve().parents[1] / "docs"

# --- the configuration -----------------------------------------------------------------------------------------------

CONFIGURATION_HEAD = """\
# The configuration

One YAML file: `streamer run -c FILE`, or its path in `STREAMER_CONFIG_FILE`. [config/minimal.yaml](../config/minimal.yaml) is enough
to begin, [config/streamer.yaml](../config/streamer.yaml) shows everything in use. This page is made from the code by `make reference`.

- `streamer check -c FILE` tells every mistake at once, each with its line and mend, and shows what is in force without secrets; with
  `--online` it also asks the API, listing by listing, and every sink.
- An unknown key is a mistake, so a typing error never passes for a setting.
- `${NAME}` is an environment variable, `${NAME:-default}` too (in quotes where it stands between braces). `STREAMER_STATE=…` overrides
  `state`, `STREAMER_SOURCES__ACME__POLL_INTERVAL=…` overrides `sources.acme.poll_interval`.
- Every secret comes by value or, better, as `…_file`, which is read again when the file changes: a key is rotated by replacing it.
- Durations have a unit (`500ms`, `10s`, `5m`, `12h`, `30d`), sizes too (`64MiB`).
- `streamer schema config` prints a JSON Schema for editors: `# yaml-language-server: $schema=…` in the first line.

`NAME` below is a name of your choice. Events carry the name of their source, metrics and dead letters that of their sink.
"""


class Key(NamedTuple):
    path: str
    value: str
    default: str
    means: str


def keys(
    schema: dict[str, Any], definitions: Mapping[str, Any], prefix: str, inside: tuple[str, ...] = ()
) -> Iterator[Key]:
    """Every key of an object, its nested ones after it."""
    required = schema.get("required", ())
    for name, prop in schema["properties"].items():
        if "const" in prop:  # the heading says it
            continue
        parts = prop.get("anyOf", [prop])
        part = next((p for p in parts if "$ref" in p or p.get("items", {}).get("$ref")), parts[0])
        reference = part.get("$ref") or part.get("items", {}).get("$ref")
        path, nested = f"{prefix}{name}", None
        if reference is not None:
            target = reference.rpartition("/")[2]
            nested = definitions[target] if "properties" in definitions[target] and target not in inside else None
        kind = _kind(part, definitions)
        default = "required" if name in required else _default(prop.get("default"), kind)
        yield Key(
            path,
            kind,
            "" if nested and "$ref" in part and default != "required" else default,
            _means(name, prop, schema, nested),
        )
        if nested is not None:
            list_mark = "[]." if "items" in part else "."
            yield from keys(nested, definitions, f"{path}{list_mark}", (*inside, target))


def _means(name: str, prop: Mapping[str, Any], schema: Mapping[str, Any], nested: Mapping[str, Any] | None) -> str:
    text: str = prop.get("description") or (nested or {}).get("description", "")
    if not text and name.endswith("_file") and name.removesuffix("_file") in schema["properties"]:
        return f"`{name.removesuffix('_file')}` in a file."
    return text


def _kind(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in part:
        target = definitions[part["$ref"].rpartition("/")[2]]
        return "" if "properties" in target else _kind(target, definitions)
    if part.get("enum"):
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "anyOf" in part or part.get("pattern", "").startswith(r"^\s*(\d*"):
        return "size"
    if "examples" in part:
        return "duration" if part["examples"][0] in ("10s", "1s") else f"like {_default(part['examples'], '')}"
    if part.get("format") in ("path", "password"):
        return {"path": "path", "password": "secret"}[part["format"]]
    if part["type"] == "array":
        return f"list of {_kind(part['items'], definitions) or 'these'}"
    return {"object": "by name", "boolean": "`true`, `false`", "integer": "number", "number": "number"}.get(
        part["type"], "text"
    )


def _default(value: Any, kind: str) -> str:
    if value is None or value in ([], {}, ""):
        return ""
    if isinstance(value, list):
        return ", ".join(_default(v, "") for v in value)
    if isinstance(value, dict):
        return "`{" + ", ".join(f"{k}: {_default(v, '').strip('`')}" for k, v in value.items()) + "}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if kind == "size":
        return f"`{show_size(value)}`"
    if isinstance(value, float):
        return f"`{show_duration(value)}`"
    return f"`{value}`"


def configuration() -> str:
    schema = configuration_schema()
    definitions = schema["$defs"]
    parts = [CONFIGURATION_HEAD]
    top = {**schema, "properties": {k: v for k, v in schema["properties"].items() if k not in ("sources", "sinks")}}
    parts.append("## Everything but sources and sinks\n\n" + _key_table(keys(top, definitions, "")))
    source = definitions["OpenAIAuditLogsOptions"]
    parts.append(
        f"## `sources.NAME`, `type: openai_audit_logs`\n\n{source['description']}\n\n"
        + _key_table(keys(source, definitions, ""))
    )
    kinds: dict[str, str] = schema["properties"]["sinks"]["additionalProperties"]["discriminator"]["mapping"]
    sinks = {name: definitions[kind.rpartition("/")[2]] for name, kind in kinds.items()}
    rows = {name: list(keys(sink, definitions, "")) for name, sink in sorted(sinks.items())}
    every = [key for key in rows["syslog"] if all(key.path in {k.path for k in others} for others in rows.values())]
    parts.append("## `sinks.NAME`, every type\n\n" + _key_table(iter(every)))
    for name, sink in sorted(sinks.items()):
        own = [
            key for key in rows[name] if key not in every and (key.default or key.path not in {k.path for k in every})
        ]
        parts.append(
            f"## `sinks.NAME`, `type: {name}`\n\n{' '.join(sink['description'].split())}\n\n" + _key_table(iter(own))
        )
    return "\n".join(parts)


def _key_table(rows: Iterator[Key]) -> str:
    lines = ["| key | value | default | means |", "|---|---|---|---|"]
    lines += [f"| `{k.path}` | {k.value} | {k.default} | {_cell(k.means)} |" for k in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# --- metrics ---------------------------------------------------------------------------------------------------------

METRICS_HEAD = """\
# Metrics

`GET /metrics` on `admin.listen`, in the Prometheus format. This page is made from the code by `make reference`; alerts and a dashboard
that rest on these metrics are in `deploy/`, what to do about an alert is in the [runbooks](runbooks.md).

| metric | type | labels | means |
|---|---|---|---|
"""


def metrics() -> str:
    registry = Telemetry().registry
    lines = []
    for collector in list(registry._collector_to_names):
        for metric in collector.describe():  # type: ignore[attr-defined]  # every instrument has it
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            labels = ", ".join(f"`{label}`" for label in collector._labelnames)  # type: ignore[attr-defined]  # as above
            lines.append(f"| `{name}` | {metric.type} | {labels} | {_cell(metric.documentation)} |")
    return METRICS_HEAD + "\n".join(lines) + "\n"


# --- the command line ------------------------------------------------------------------------------------------------

CLI_HEAD = """\
# The command line

`streamer VERB --help` says the same on a terminal. This page is made from the code by `make reference`.

Exit codes, of every verb: 0 done; 1 the answer is no (something is held, left behind or not whole); 2 wrong use; 70 a bug, with a
traceback; 78 a mistake in the configuration or in what it points to, which a restart will not mend. A leader that
cannot renew its lease is ended by SIGALRM, and should be started again. Errors are one sentence each on
stderr that names the thing, its place and the mend; stdout belongs to data.

`streamer run` needs nobody: whatever the API or a sink does, it waits, says so and goes on. SIGTERM and SIGINT end it cleanly within
20 seconds; a `kill -9` costs a repeated request and nothing else. SIGHUP makes it read its configuration
again, as a change of the file does, and look whether a file that it writes was moved away, for log rotation; what it takes and what it
refuses is in [the decision](decisions/hot-reload.md).
"""


def commands(group: Any = None, prefix: str = "streamer") -> Iterator[tuple[str, Any]]:
    """Every verb with its whole name; typer's objects, which it does not let us name."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def command_line() -> str:
    return "\n".join([CLI_HEAD, *(_command(name, command) for name, command in commands())])


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join([name, *map(_argument, arguments)])
    lines = [f"## `{usage}`", "", " ".join((command.help or "").split()), ""]
    if name == "streamer simulate":
        lines += ["Its options and faults: [the simulator](simulator.md).", ""]
    rows = [(_argument(a), a.help or "") for a in arguments]
    rows += [(" ".join([*o.opts, *o.secondary_opts]), o.help or "") for o in options]
    if rows:
        lines += ["| | |", "|---|---|", *(f"| `{what}` | {_cell(means)} |" for what, means in rows), ""]
    return "\n".join(lines)


def _argument(argument: Any) -> str:
    name = (argument.name or "").upper().replace("_", "-")
    if argument.nargs == -1:
        return f"[{name}…]"
    return name if argument.required else f"[{name}]"


# --- the envelope ----------------------------------------------------------------------------------------------------

ENVELOPE_HEAD = """\
# The envelope

What an event is in the journal, in every format's making, and in each sink whose `format` is `envelope`: the schema `streamer.envelope/1`. This page is made from
the code by `make reference`; `streamer schema envelope` prints it as JSON Schema. Fields may be added; none is changed or removed without another
number in `schema`. How it becomes OCSF, ECS, CEF and LEEF: [formats](formats.md).

This is a real line, of the simulator, with line breaks added:

```json
%s
```
"""
EXAMPLE_TYPE = "api_key.created"


def envelope() -> str:
    schema = envelope_schema()
    parts = [ENVELOPE_HEAD % _example()]
    for name, kind in schema["$defs"].items():
        parts.append(f"## {name}\n\n{kind.get('description') or OF_ENVELOPE[name]}\n\n" + _fields(kind))
    return "\n".join(parts)


OF_ENVELOPE = {"Geo": "Where an address is.", "Project": "The project of the event."}


def _example() -> str:
    """The same in every run: the simulator's company is drawn from a seed, and its past ends at a fixed second."""
    upstream = Upstream(SimulatorOptions(events=300, until=1_767_225_600), lambda: 1_767_225_600.0)
    event = next(e.event for e in upstream.truth("organization") if e.event.type == EXAMPLE_TYPE)
    made, _ = to_envelope(
        event,
        source=SourceName("acme"),
        listing="organization",
        observed_at=from_epoch(event.effective_at + 4),
        late=False,
    )
    return json.dumps(json.loads(encode_envelope(made)), indent=1, ensure_ascii=False)


def _fields(kind: Mapping[str, Any]) -> str:
    lines = ["| field | value | means |", "|---|---|---|"]
    for name, prop in kind["properties"].items():
        optional = "" if name in kind.get("required", ()) else ", may be absent"
        lines.append(f"| `{name}` | {_value(prop)}{optional} | {_cell(prop.get('description', ''))} |")
    return "\n".join(lines) + "\n"


def _value(prop: Mapping[str, Any]) -> str:
    if "anyOf" in prop:
        return " or ".join(_value(part) for part in prop["anyOf"])
    if "$ref" in prop:
        name = prop["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in prop:
        return f"`{prop['const']}`"
    if "enum" in prop:
        return ", ".join(f"`{value}`" for value in prop["enum"])
    if prop.get("type") == "array":
        return f"list of {_value(prop['items'])}"
    if prop.get("type") == "object":
        return "text by name"
    words = {"string": "text", "boolean": "`true`, `false`", "integer": "number", "number": "number", "null": "null"}
    return words[prop["type"]] if "type" in prop else "any JSON"


PAGES = {
    "configuration.md": configuration,
    "metrics.md": metrics,
    "cli.md": command_line,
    "envelope.md": envelope,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), "utf-8")
