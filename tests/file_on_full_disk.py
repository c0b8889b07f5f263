"""Fills a small disk under a file sink. Run in a mount namespace of its own, which this program fills; prints one JSON line.

unshare --user --map-root-user --mount python -m tests.file_on_full_disk FOLDER
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from streamer.errors import RetryableError
from tests.records import batch
from tests.sink_contract import Pump
from tests.test_file import FileSide


async def fill(folder: Path) -> dict[str, object]:
    ballast = folder / "ballast"
    ballast.write_bytes(b"x" * (64 << 10))
    side = FileSide(folder)
    first, refused, lengths = 1, list[str](), list[tuple[int, int]]()
    async with Pump(side).running() as pump:
        while len(refused) < 3:
            try:
                await pump.write(batch(20, first=first))
                first += 20
            except RetryableError as error:
                refused.append(str(error))
                assert pump.position.bookmark is not None
                lengths.append((side.path.stat().st_size, pump.position.bookmark["length"]))
        ballast.unlink()
        await pump.write(batch(20, first=first))
    arrived = [event for event, _ in await side.arrived()]
    wanted = [m.record.envelope.id for m in batch(first + 19).messages]
    return {"refused": refused, "lengths": lengths, "complete": arrived == wanted}


if __name__ == "__main__":
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", sys.argv[1]], check=True)
    print(json.dumps(asyncio.run(fill(Path(sys.argv[1])))))  # noqa: T201 - its output
