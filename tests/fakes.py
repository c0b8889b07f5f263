"""Stand-ins for the ports that misbehave on demand; typed against the ports, so that they cannot drift from them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from streamer.model import Batch, Bookmark
from streamer.ports import Sink


@dataclass
class ScriptedSink:
    """Remembers what it took; before each write it does what the script says next: None takes, an exception is raised."""

    script: Iterator[Exception | None] = field(default_factory=lambda: iter(()))
    refuses: Callable[[Batch], Exception | None] = lambda _: None
    taken: list[bytes] = field(default_factory=list)
    writes: int = 0

    async def write(self, batch: Batch, /) -> Bookmark | None:
        self.writes += 1
        trouble = next(self.script, None) or self.refuses(batch)
        if trouble is not None:
            raise trouble
        self.taken += [m.body for m in batch.messages]
        return {"taken": len(self.taken)}


_: type[Sink] = ScriptedSink
