"""From a journal that is full already, through the daemon, into each sink: `run --once`, start-up taken off.

The baseline is the same daemon with a file that is fsynced. The servers (a webhook receiver, Apache Kafka) run on the same machine and
are paid for from the same cores.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from bench.pipeline import PYTHON, Run, measured, simulator
from tests.integration.child import CACHE
from tests.integration.kafka_broker import kafka_broker
from tests.outage import Hook, outage, receiving
from tests.places import Place
from tests.simulation import simulated_in_child

EVENTS = int(os.environ.get("BENCH_SINK_EVENTS", "60000"))
OUTAGE_EVENTS = int(os.environ.get("BENCH_OUTAGE_EVENTS", "200000"))
ROUNDS = 2


@contextmanager
def journal(folder: Path, base_url: str) -> Iterator[Path]:
    """A configuration whose journal holds everything already; nothing comes in any more."""
    place = Place(folder, base_url)
    place.change("admin", None).change("enrich", {"directory": None}).change("log", {"level": "warning"})
    place.document["admin"] = None
    place.change("sources.acme.start", "31d")
    config = place.write()
    measured([PYTHON, "-m", "streamer", "run", "-c", str(config), "--once"], EVENTS)
    yield config


def deliver(config: Path, sinks: dict[str, dict[str, object]]) -> Run:
    """The sinks are new to the journal and get all of it."""
    document = yaml.safe_load(config.read_text())
    document["sinks"] = sinks
    other = config.with_name("now.yaml")
    other.write_text(yaml.safe_dump(document))
    return measured([PYTHON, "-m", "streamer", "run", "-c", str(other), "--once"], EVENTS)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name, receiving(Hook()) as hook:
        folder = Path(name)
        process, base_url = simulator(EVENTS)
        try:
            with journal(folder, base_url) as config:
                if any(CACHE.glob("kafka-*/.complete")):
                    with kafka_broker(folder / "kafka") as kafka:
                        _table(config, folder, hook, kafka)
                else:
                    _table(config, folder, hook, None)
        finally:
            process.kill()
            process.wait()


def _table(config: Path, folder: Path, hook: Hook, kafka: object) -> None:
    kinds: dict[str, dict[str, object]] = {
        "file": {"type": "file"},
        "archive": {"type": "archive"},
        "webhook": {"type": "webhook", "url": hook.url, "layout": "ndjson", "body": "bare", "batch": {"events": 500}},
    }
    if kafka is not None:
        bus = {"type": "kafka", "bootstrap_servers": kafka.servers, "batch": {"events": 2000}}  # type: ignore[attr-defined]
        kinds |= {"kafka": bus, "kafka, exactly once": bus | {"exactly_once": True}}
    number = 0

    def fresh(kind: str) -> dict[str, object]:
        nonlocal number
        number += 1
        options = dict(kinds[kind])
        if kind in ("file", "archive"):
            options["path"] = str(folder / f"{kind}-{number}")
        if kind.startswith("kafka"):
            options["topic"] = f"topic-{number}"
            kafka.create(options["topic"])  # type: ignore[attr-defined]
        return {f"sink-{number}": options}

    nothing = min(
        deliver(config, {f"idle-{n}": {"type": "file", "path": str(folder / f"idle-{n}"), "start": "latest"}}).seconds
        for n in range(2)
    )
    print(f"start and end without an event: {nothing:.2f} s")
    groups = [(kind,) for kind in kinds] + [("archive", "webhook", "kafka") if kafka else ("archive", "webhook")]
    baseline = 0.0
    for group in groups:
        runs = [deliver(config, {k: v for kind in group for k, v in fresh(kind).items()}) for _ in range(ROUNDS)]
        best = min(runs, key=lambda run: run.seconds)
        rate = EVENTS / max(best.seconds - nothing, 0.01)
        baseline = baseline or rate
        title = " + ".join(group)
        print(
            f"{title:26} {rate:8,.0f} events/s each, {rate / baseline:.2f} of the file's, {best.cpu_us:5.1f} us CPU an event, {best.rss_mib:.0f} MiB"
        )


def outages() -> None:
    """One sink down for all events; what the others and the memory say."""
    for events in (OUTAGE_EVENTS,):
        with (
            tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name,
            simulated_in_child(events=events, days=30, profile="bulk", seed=3) as child,
            receiving(Hook()) as hook,
        ):
            began = time.monotonic()
            seen = outage(Place(Path(name), child.base_url), child, hook, 600)
            print(
                f"outage of {seen.events:,} events: the others in {seen.others_s:.1f} s ({seen.events / seen.others_s:,.0f}/s), recovery in "
                f"{seen.recovery_s:.1f} s ({seen.events / seen.recovery_s:,.0f}/s), at most {seen.most_mib:.0f} MiB, "
                f"in order and complete: {json.dumps(seen.in_order)}, {time.monotonic() - began:.0f} s in all"
            )


if __name__ == "__main__":
    main()
    outages()
