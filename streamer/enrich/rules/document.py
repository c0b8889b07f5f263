"""A YAML file as nodes that know their line, and the readers that turn a node into a value or into a mistake with its place."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import yaml

from streamer.config import parse_duration, show_duration
from streamer.document import compose, value_of
from streamer.errors import ConfigError

T = TypeVar("T")

MAX_TEXT = 2000

_Loader: Any = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # the one in C is ten times as fast and knows the lines too


class Mistake(Exception):  # collected; the file is refused with all of them at once
    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line
        self.sentence = sentence


class Node(NamedTuple):
    """A piece of the file: a scalar, a list of nodes, or nodes by key."""

    value: Any
    line: int
    """Counted from 1; of a value in a mapping its key's."""
    path: str
    """`rules[0].match.types`"""

    def mistake(self, sentence: str) -> Mistake:
        return Mistake(self.line, f"{self.path}: {sentence}" if self.path else sentence)

    def plain(self) -> Any:
        """Without places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value


def read_document(text: str, name: str) -> Node:
    """ConfigError where it is no YAML, or too much of it; `name` is what the sentence calls the file."""
    root = compose(text, name, _Loader)
    if root is None:
        return Node({}, 1, "")
    try:
        return _read(root, root.start_mark.line + 1, "")
    except Mistake as mistake:
        raise ConfigError(f"{name}:{mistake.line}: {mistake.sentence}") from None


def _read(node: yaml.Node, line: int, path: str) -> Node:
    if isinstance(node, yaml.MappingNode):
        return Node(_mapping(node, path), line, path)
    if isinstance(node, yaml.SequenceNode):
        items = [_read(child, child.start_mark.line + 1, f"{path}[{i}]") for i, child in enumerate(node.value)]
        return Node(items, line, path)
    try:
        return Node(value_of(node), line, path)
    except ValueError as error:
        raise Mistake(line, f"{path}: {error}") from None


def _mapping(node: yaml.MappingNode, path: str) -> dict[str, Node]:
    result: dict[str, Node] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise Mistake(line, f"{path}: a key must be plain text; write it as one word")
        key = str(key_node.value)
        inner = f"{path}.{key}" if path else key
        if key in result:
            raise Mistake(line, f"{inner} is there twice; keep one")
        result[key] = _read(value_node, line, inner)
    return result


class Mistakes:
    """Collects what is wrong, so that one reading finds everything."""

    def __init__(self) -> None:
        self.found: list[Mistake] = []

    def keys(self, node: Node, required: Iterable[str], optional: Iterable[str]) -> dict[str, Node]:
        """The keys that may be there; unknown and missing ones are noted."""
        if not isinstance(node.value, dict):
            self.found.append(node.mistake(f"must hold keys and values, such as {next(iter(required), 'name')}: …"))
            return {}
        known = [*required, *optional]
        for key, child in node.value.items():
            if key not in known:
                self.found.append(child.mistake(f"unknown key; {did_you_mean(key, known)}"))
        for key in required:
            if key not in node.value:
                self.found.append(node.mistake(f"{key} is missing; add it"))
        return {key: child for key, child in node.value.items() if key in known}

    def read(self, node: Node | None, reader: Callable[[Node], T], default: T) -> T:
        """What the reader makes of the node; the default where there is none or it is wrong."""
        if node is None:
            return default
        try:
            return reader(node)
        except Mistake as mistake:
            self.found.append(mistake)
            return default

    def items(self, node: Node | None, most: int) -> list[Node]:
        """Those of a list; one item may stand for a list of one."""
        if node is None:
            return []
        found = node.value if isinstance(node.value, list) else [node]
        if not found:
            self.found.append(node.mistake("is empty; name at least one, or leave it out"))
        if len(found) > most:
            self.found.append(node.mistake(f"has {len(found)} items, at most {most} are taken; shorten it"))
        return found[:most]

    def each(self, node: Node | None, reader: Callable[[Node], T], most: int) -> tuple[T, ...]:
        """What the reader makes of each item that is right."""
        found: list[T] = []
        for item in self.items(node, most):
            try:
                found.append(reader(item))
            except Mistake as mistake:
                self.found.append(mistake)
        return tuple(found)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    choices = list(known)
    near = difflib.get_close_matches(word, choices, 1, 0.5)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(choices)}" if len(choices) <= 24 else "see docs/rules.md for what there is"


# --- readers: a node to a value, or Mistake ------------------------------------------------------------------------------


def text(node: Node) -> str:
    if not isinstance(node.value, str) or not node.value.strip():
        raise node.mistake("must be text; put it in quotes")
    if len(node.value) > MAX_TEXT:
        raise node.mistake(f"is longer than {MAX_TEXT} characters; shorten it")
    return node.value.strip()


def scalar(node: Node) -> str | int | float | bool:
    value = node.value
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise node.mistake(f"is longer than {MAX_TEXT} characters; shorten it")
    if not isinstance(value, str | int | float):
        raise node.mistake("must be text, a number, true or false")
    return value


def boolean(node: Node) -> bool:
    if not isinstance(node.value, bool):
        raise node.mistake("must be true or false")
    return node.value


def choice(choices: Iterable[str]) -> Callable[[Node], str]:
    known = list(choices)

    def read(node: Node) -> str:
        if node.value not in known:
            raise node.mistake(f"{node.value!r} is none of what it may be; {did_you_mean(str(node.value), known)}")
        chosen: str = node.value
        return chosen

    return read


def whole_number(low: int, high: int) -> Callable[[Node], int]:
    def read(node: Node) -> int:
        if not isinstance(node.value, int) or isinstance(node.value, bool) or not low <= node.value <= high:
            raise node.mistake(f"must be a whole number from {low} to {high}")
        return node.value

    return read


def duration(low_s: int, high_s: int) -> Callable[[Node], int]:
    """Whole seconds: upstream's times have no finer ones."""

    def read(node: Node) -> int:
        try:
            seconds = parse_duration(node.value)
        except ValueError as error:
            raise node.mistake(str(error)) from None
        if not low_s <= seconds <= high_s or seconds != int(seconds):
            raise node.mistake(f"must be from {show_duration(low_s)} to {show_duration(high_s)}, in whole seconds")
        return int(seconds)

    return read


def each(reader: Callable[[Node], T], most: int) -> Callable[[Node], tuple[T, ...]]:
    """A list, or one item that stands for a list of one."""

    def read(node: Node) -> tuple[T, ...]:
        items = node.value if isinstance(node.value, list) else [node]
        if not items:
            raise node.mistake("is empty; name at least one")
        if len(items) > most:
            raise node.mistake(f"has {len(items)} items, at most {most} are taken; shorten it")
        return tuple(reader(item) for item in items)

    return read
