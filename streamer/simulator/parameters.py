"""Parameters of a query string, as upstream reads them."""

from collections.abc import Mapping, Sequence

from streamer.simulator.answers import Refusal, bad_request

Parameters = Mapping[str, Sequence[str]]
"""Each parameter's values, in the order sent."""

MAX_LIMIT = 100
DEFAULT_LIMIT = 20
TRUE, FALSE = ("true", "True", "1"), ("false", "False", "0")


def last_value(parameters: Parameters, name: str) -> str | None:
    values = parameters.get(name)
    return values[-1] if values else None


def read_limit(parameters: Parameters, default: int = DEFAULT_LIMIT, most: int = MAX_LIMIT) -> int:
    """Raises Refusal."""
    text = last_value(parameters, "limit")
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= most:
        raise Refusal(bad_request(f"Invalid 'limit': {text!r} is not a number from 1 to {most}.", "limit"))
    return int(text)


def read_flag(parameters: Parameters, name: str) -> bool:
    """Raises Refusal."""
    text = last_value(parameters, name)
    if text is not None and text not in TRUE + FALSE:
        raise Refusal(bad_request(f"Invalid '{name}': {text!r} is neither true nor false.", name))
    return text in TRUE
