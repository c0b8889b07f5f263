"""Three verdicts. An adapter raises one of them for everything its world can do to it; anything else is a bug."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that msgspec raises for bytes that are no JSON of the wanted form: text that is not UTF-8 and too deep a nesting have
exceptions of their own."""


class StreamerError(Exception):
    """One sentence for a human: the thing, its place, the mend."""


class ConfigError(StreamerError):
    """We are wrong and an operator must act (401, 403, 404, a bad certificate, a corrupt file).

    While opening: exit 78. In a running loop: that job alone is held, and tried again at the slowest pace.
    """

    def __init__(self, *problems: str) -> None:
        """`problems`: one sentence each; a configuration reports all of its mistakes at once."""
        super().__init__("\n".join(problems))
        self.problems = problems


class RetryableError(StreamerError):
    """The world is wrong for now (network, 408, 425, 429, 5xx, a full disk): back off and try again, for ever."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """`retry_after`: seconds that the other side asked us to wait, if it did."""
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(StreamerError):
    """These records can never be taken (400, 413, 422, too large). Only a sink raises it."""

    def __init__(self, message: str, *, rejected: Sequence[int] | None = None) -> None:
        """`rejected`: indexes into the batch of the records to blame, where the other side named them; all others of
        the batch are written again. None: nobody knows, so the batch is halved until the bad record is alone."""
        super().__init__(message)
        self.rejected = rejected


def verdicts(error: BaseException) -> list[StreamerError]:
    """The verdicts that an error consists of, also in a group of what ran at once; none if anything else is in it."""
    if isinstance(error, StreamerError):
        return [error]
    if not isinstance(error, BaseExceptionGroup):
        return []
    inside = [verdicts(each) for each in error.exceptions]
    return [verdict for found in inside for verdict in found] if all(inside) else []


class Repositioned(Exception):  # a turn of the road, not an error
    """A sink stands somewhere new (a file it has just created or found): store `bookmark`, then write the same batch
    again. So a bookmark is durable before the first byte that it speaks of."""

    def __init__(self, bookmark: Mapping[str, Any]) -> None:
        super().__init__("the sink moved to a new place")
        self.bookmark = bookmark
