"""The archive alone: writing with fsync, and verifying, against two floors of the same run: writing the same bytes with as many fsyncs, and
SHA-256 on one core."""

import hashlib
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from streamer.errors import Repositioned
from streamer.model import Message, Record, Seq
from streamer.sinks.archive.layout import OPEN
from streamer.sinks.archive.options import ArchiveOptions
from streamer.sinks.archive.store import FolderStore
from streamer.sinks.archive.verify import verify
from streamer.sinks.archive.writer import Archive

BATCH = 5000
LINE_BYTES = 1700


def make_messages(count: int) -> list[Message]:
    """Lines of the size of real envelopes, whose ids, addresses and hashes do not repeat."""
    chance = random.Random(1)
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/144.0.0.0 Safari/537.36"
    messages = []
    for n in range(1, count + 1):
        line = (
            f'{{"schema":"streamer.envelope/1","id":"audit_log-{chance.randbytes(12).hex()}","source":"acme","listing":"organization",'
            f'"type":"role.assignment.created","time":"2026-01-01T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}Z","actor":{{"id":"user-{chance.randbytes(9).hex()}",'
            f'"ip":"203.0.113.{n % 256}","user_agent":"{agent}","ja3":"{chance.randbytes(16).hex()}","ja4":"t13d{chance.randbytes(12).hex()}"}},"event":{{"text":"'
        )
        line += "".join(chance.choice(("api.model.read ", "project ", "invite ", "role ")) for _ in range(300))
        messages.append(Message(Record(Seq(n), body := (line[: LINE_BYTES - 3] + '"}}').encode()), body))
    return messages


def write_archive(folder: Path, messages: list[Message], options: dict[str, Any]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    place = folder / "archive"
    (place / OPEN).mkdir(parents=True)
    archive = Archive(
        ArchiveOptions(path=str(place), **options), FolderStore(place), place / OPEN, "bench", None, time.time
    )
    wall, cpu = time.perf_counter(), time.process_time()
    for begin in range(0, len(messages), BATCH):
        batch = messages[begin : begin + BATCH]
        try:
            archive.write(batch)
        except Repositioned:
            archive.write(batch)
    archive.finish()
    archive.close()
    return time.perf_counter() - wall, time.process_time() - cpu


def write_floor(folder: Path, messages: list[Message]) -> float:
    began = time.perf_counter()
    with (folder / "floor").open("wb") as file:
        for begin in range(0, len(messages), BATCH):
            file.write(b"\n".join(m.body for m in messages[begin : begin + BATCH]))
            file.flush()
            os.fsync(file.fileno())
    return time.perf_counter() - began


def hash_floor(messages: list[Message]) -> float:
    """MB/s of one core."""
    data = b"".join(m.body for m in messages[:20_000])
    began = time.perf_counter()
    hashlib.sha256(data).digest()
    return len(data) / 1e6 / (time.perf_counter() - began)


def main() -> None:
    messages = make_messages(int(os.environ.get("BENCH_EVENTS", "100000")))
    count, cores = len(messages), os.cpu_count() or 1
    hashing = hash_floor(messages)
    print(f"sha256 on one core: {hashing:,.0f} MB/s")
    for options in ({"compression": "zstd"}, {"compression": "gzip"}, {"compression": "none"}, {"objects": "parquet"}):
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
            folder = Path(name)
            base = write_floor(folder, messages)
            wall, cpu = write_archive(folder, messages, options)
            plain, deep = (verify(str(folder / "archive"), deep=deep) for deep in (False, True))
            if not (plain.whole and deep.whole and plain.events == count):
                raise SystemExit(f"the archive is not whole: {deep.findings or plain.events}")
            kind = next(iter(options.values()))
            print(
                f"{kind:8} write {count / wall:8,.0f} events/s, {cpu / count * 1e6:5.1f} us CPU an event, {plain.event_bytes / plain.stored_bytes:4.1f} times smaller; "
                f"floor {count / base:8,.0f} events/s; speed {base / wall:.2f} of the floor"
            )
            for label, report in (("verify", plain), ("deep", deep)):
                rate = report.event_bytes / 1e6 / max(report.seconds, 1e-3) / cores
                print(f"         {label:6} {rate:8,.0f} MB/s of events a core; {rate / hashing:.2f} of sha256")


if __name__ == "__main__":
    main()
