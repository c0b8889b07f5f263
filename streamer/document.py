"""YAML that an operator wrote, to nodes that are safe to walk, and a node to its value. What is no YAML has its place and mend."""

import re
from typing import Any

import yaml

from streamer.errors import ConfigError

MAX_CHARACTERS = 1 << 20
MAX_NODES = 100_000
"""Aliases unfolded: a small text can stand for a very large one."""
MAX_DEPTH = 24

_KEY = re.compile(r"sk-(?:admin|proj|svcacct)-[\w.-]+")
_OPENS = (yaml.SequenceStartEvent, yaml.MappingStartEvent)
_CLOSES = (yaml.SequenceEndEvent, yaml.MappingEndEvent)


def compose(text: str, name: str, loader: Any = yaml.SafeLoader) -> yaml.Node | None:
    """The document; None where there is none. ConfigError where it is no YAML, or too much of it.

    `name`: what the sentence calls the file.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{name}: is longer than {MAX_CHARACTERS} characters; leave something out")
    try:
        # Composing is recursive (in C it ends the process), so the depth is looked at before.
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, _OPENS) - isinstance(event, _CLOSES)
            if depth > MAX_DEPTH:
                raise _too_much(name, event.start_mark)
        root: yaml.Node | None = yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        raise _not_yaml(text, name, error) from None
    if root is not None:
        _weigh(root, name)
    return root


def value_of(node: yaml.Node) -> Any:
    """Of a scalar. ValueError where the text cannot be what its tag says. Times stay text, so that they are read in one place
    and with their zone."""
    if node.tag.endswith((":timestamp", ":binary")):
        return node.value
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (ValueError, LookupError, yaml.YAMLError):  # `!!int ""` is looked into before it is looked at
        raise ValueError("is no value; put it in quotes") from None  # unsaid what stands there: it may be a secret


def without_keys(sentence: str) -> str:
    """A sentence that repeats what an operator wrote, without a key that stands where none should (`api_key:sk-admin-…`)."""
    return _KEY.sub("sk-***", sentence)


def plain(text: str) -> Any:
    """A text that stands for one value, as it would in a file. ValueError where it is no YAML."""
    try:
        root = compose(text, "it")
    except ConfigError:
        raise ValueError("is no YAML; put quotes around it") from None
    return None if root is None else _built(root)


def _built(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _built(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_built(child) for child in node.value]
    return value_of(node)


def _not_yaml(text: str, name: str, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    line = mark.line if mark else 0
    mend = "put quotes around ${…}" if "${" in "".join(text.splitlines()[line : line + 1]) else "mend the line"
    return ConfigError(without_keys(f"{name}:{line + 1}: not YAML: {what}; {mend}"))


def _too_much(name: str, mark: Any) -> ConfigError:
    line = mark.line + 1 if mark else 1
    return ConfigError(f"{name}:{line}: there is too much in here, aliases unfolded; write less, or a named list")


def _weigh(root: yaml.Node, name: str) -> None:
    """With every alias unfolded, as a reader meets them. A node that holds itself is too deep."""
    left, waiting = MAX_NODES, [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise _too_much(name, node.start_mark)
        if isinstance(node, yaml.MappingNode):
            waiting += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(child, depth + 1) for child in node.value]
