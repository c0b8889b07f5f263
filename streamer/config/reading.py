"""The file as text: YAML with `${NAME}` references, `STREAMER_…` overrides, and every mistake at once with its place."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NewType, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from streamer.config.options import Config, SinkOptions, SourceOptions, config_model
from streamer.document import compose, plain, value_of, without_keys
from streamer.errors import ConfigError

Path_ = tuple[str | int, ...]
Place = int | str
"""A line of the file, counted from 1, or the environment variable that was put in its stead."""
Places = NewType("Places", dict[Path_, Place])
"""Where each key stands."""
Problem = tuple[Place, str]

M = TypeVar("M")

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}")


class _Reader:
    """A YAML document to plain objects and the line of every key; collects problems instead of stopping at the first."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env, self.places, self.problems = env, Places({}), list[Problem]()
        self.unresolved = set[Path_]()
        """Where there is no value: a variable that is not set, a text that is no value."""

    def read(self, node: yaml.Node, path: Path_ = ()) -> Any:
        self.places.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append((line, f"{show_path(path)}: a key must be plain text; write it as one word"))
                continue
            if key in result:
                self.problems.append((line, f"{show_path((*path, key))} is there twice; keep one"))
            self.places[(*path, key)] = line
            result[key] = self.read(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.Node, path: Path_) -> Any:
        try:
            if "${" not in node.value:
                return value_of(node)
            text = _REFERENCE.sub(lambda m: self._lookup(m, path), node.value)
            return plain(text) if getattr(node, "style", None) is None and text else text
        except ValueError as error:
            self.problems.append((self.places[path], f"{show_path(path)}: {error}"))
            self.unresolved.add(path)
            return None

    def _lookup(self, match: re.Match[str], path: Path_) -> str:
        name, default = match[1], match[3]
        if name in self.env:
            return self.env[name]
        if default is None:
            sentence = f"{show_path(path)}: ${{{name}}} is not set in the environment; set it or write ${{{name}:-…}}"
            self.problems.append((self.places[path], sentence))
            self.unresolved.add(path)
        return default or ""


def show_path(path: Path_) -> str:
    return re.sub(r"\.\[", "[", ".".join(f"[{p}]" if isinstance(p, int) else str(p) for p in path)) or "the file"


def _overrides(env: Mapping[str, str], data: dict[str, Any], places: Places) -> Iterator[Problem]:
    """Put `STREAMER_A__B=value` at a.b; yields what cannot be put anywhere."""
    for name, value in sorted(env.items()):
        if not name.startswith("STREAMER_") or name == "STREAMER_CONFIG_FILE":
            continue
        *parents, leaf = name.removeprefix("STREAMER_").lower().split("__")
        node, path = data, list[str]()
        for part in parents:
            path.append(next((k for k in node if k.lower().replace("-", "_") == part), part))
            places.setdefault(tuple(path), name)
            node = node.setdefault(path[-1], {})
            if not isinstance(node, dict):
                yield name, f"{show_path(tuple(path))} holds no keys; check the name of the variable"
                break
        else:
            key = next((k for k in node if k.lower().replace("-", "_") == leaf), leaf)
            places[(*path, key)] = name
            try:
                node[key] = plain(value) if value else value
            except ValueError as error:
                yield name, f"{show_path((*path, key))}: {error}"


@cache
def _known_keys(model: type[BaseModel]) -> set[str]:
    schema = model.model_json_schema()
    return {key for part in (schema, *schema.get("$defs", {}).values()) for key in part.get("properties", {})}


def _sentence(error: ErrorDetails, model: type[BaseModel]) -> str:
    """pydantic's finding in our words, with the mend."""
    kind, last = error["type"], str(error["loc"][-1]) if error["loc"] else ""
    context = error.get("ctx", {})
    match kind:
        case "extra_forbidden":
            near = difflib.get_close_matches(last, sorted(_known_keys(model) - {last}), 1)
            return f"unknown key; did you mean {near[0]}?" if near else "unknown key; remove it"
        case "missing":
            return "is missing; add it"
        case "union_tag_not_found":
            return "needs a type"
        case "union_tag_invalid":
            known = str(context["expected_tags"]).replace("'", "")
            near = difflib.get_close_matches(str(context["tag"]), known.split(", "), 1)
            return (
                f"unknown type {context['tag']}; " + (f"did you mean {near[0]}? " if near else "") + f"known: {known}"
            )
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"must be {context['expected']}".replace("'", "")
        case "path_type":
            return "must be a path"
        case "string_pattern_mismatch" if last == "listen":
            return "must be HOST:PORT, like 127.0.0.1:9464"
    return error["msg"][:1].lower() + error["msg"][1:]


def _path(error: ErrorDetails, data: Any) -> Path_:
    """Where it stands in the file. The location has steps that are not there (a union's tag): skipped."""
    path: Path_ = ()
    node = data
    for i, part in enumerate(error["loc"]):
        inside = (isinstance(node, dict) and part in node) or (isinstance(node, list) and isinstance(part, int))
        if inside:
            path, node = (*path, part), node[part]
        elif i == len(error["loc"]) - 1 and error["type"] in ("missing", "extra_forbidden"):
            path = (*path, part)
    return path


class _Judge:
    """Every mistake of a document: what is wrong is taken out and the rest is looked at again, because a part with one mistake
    is not looked at as a whole."""

    def __init__(self, data: Any, places: Places, unresolved: set[Path_], model: type[Config]) -> None:
        self.problems: list[Problem] = []
        self._data, self._places, self._model = data, places, model
        self._out = set(unresolved)
        for path in unresolved:
            self._take_out(path)

    def config(self) -> Config | None:
        """What is left when all mistakes are out; None when nothing can be left."""
        while True:
            try:
                return self._model.model_validate(self._data)
            except ValidationError as errors:
                found = [(_path(e, self._data), _sentence(e, self._model)) for e in errors.errors()]
            self.problems += [
                (self._place(path), f"{show_path(path)}: {sentence}")
                for path, sentence in found
                if not self._follows(path, sentence)
            ]
            if not all([self._take_out(path) for path, _ in found]):
                return None

    def _place(self, path: Path_) -> Place:
        return next((self._places[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self._places), 1)

    def _follows(self, path: Path_, sentence: str) -> bool:
        """Whether it is only said because something was taken out."""
        return any(out[: len(path)] == path and (out == path or str(out[-1]) in sentence) for out in self._out)

    def _take_out(self, path: Path_) -> bool:
        """The key, or what it is missing from; of a list, the whole. False when that is the whole document."""
        path = next((path[:i] for i, part in enumerate(path) if isinstance(part, int)), path)
        if not path:
            return False
        *parents, key = path
        node = self._data
        for part in parents:
            node = node.get(part) if isinstance(node, dict) else None
        self._out.add(path)
        if isinstance(node, dict) and key in node:
            del node[key]
        elif parents:
            return self._take_out(tuple(parents))
        else:
            self._data[key] = {}  # `sources` or `sinks`: as good as empty
        return True


def load(
    path: Path,
    *,
    sources: Mapping[str, type[SourceOptions]],
    sinks: Mapping[str, type[SinkOptions]],
    env: Mapping[str, str] = os.environ,
) -> tuple[Config | None, list[str]]:
    """As `judge`, of a file; ConfigError when it cannot be read."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}; give the configuration file with -c") from None
    return judge(text, str(path), sources=sources, sinks=sinks, env=env)


def judge(
    text: str,
    name: str,
    *,
    sources: Mapping[str, type[SourceOptions]],
    sinks: Mapping[str, type[SinkOptions]],
    env: Mapping[str, str],
) -> tuple[Config | None, list[str]]:
    """The configuration as far as it is good, and every problem with file, line and mend. `name`: what problems call the file.

    ConfigError for a text that is no YAML mapping.
    """
    node = compose(text, name)
    reader = _Reader(env)
    data = reader.read(node) if node is not None else {}
    if not isinstance(data, dict):
        raise ConfigError(f"{name}:1: not a configuration: write keys and values, like state: /var/lib/streamer")
    problems = [*reader.problems, *_overrides(env, data, reader.places)]
    for part in ("sources", "sinks"):
        if part in data and not data[part]:
            problems.append((reader.places.get((part,), 1), f"{part}: must name at least one"))
            data[part] = {}
    model = config_model(_named(sources, data.get("sources")), _named(sinks, data.get("sinks")))
    rest = _Judge(data, reader.places, reader.unresolved, model)
    config = rest.config()
    found = sorted({*problems, *rest.problems}, key=lambda p: (isinstance(p[0], str), p))
    return config, [
        without_keys(f"{place if isinstance(place, str) else f'{name}:{place}'}: {said}") for place, said in found
    ]


def _named(models: Mapping[str, M], part: Any) -> Mapping[str, M]:
    """Those whose types a document names, since making the others takes longer than reading it. All, where a type is not there or unknown:
    the problem says which there are."""
    types = (
        [one.get("type") if isinstance(one, dict) else None for one in part.values()] if isinstance(part, dict) else []
    )
    if types and all(isinstance(name, str) and name in models for name in types):
        return {name: models[name] for name in models if name in types}
    return models


def parse(
    text: str,
    name: str,
    *,
    sources: Mapping[str, type[SourceOptions]],
    sinks: Mapping[str, type[SinkOptions]],
    env: Mapping[str, str],
) -> Config:
    """As `judge`; ConfigError holds all problems."""
    config, problems = judge(text, name, sources=sources, sinks=sinks, env=env)
    if problems or config is None:
        raise ConfigError(*problems)
    return config
