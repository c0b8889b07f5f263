"""`python -m bench.peers`: the tables of docs/peers.md, in Markdown, as they come."""

import argparse
import time
from collections.abc import Sequence

from bench.peers.benthos import Benthos
from bench.peers.dlt import Dlt
from bench.peers.faults import CASES, suffer
from bench.peers.grove import Grove
from bench.peers.ours import Ours
from bench.peers.peer import Peer
from bench.peers.speed import SIMULATED, Load, Speed, measure
from tests.simulation import Child, simulated_in_child

PEERS: tuple[Peer, ...] = (Ours(), Grove(), Dlt(), Benthos())


def say(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(*cells: str) -> None:
    say(*cells)
    say(*("---" for _ in cells))


def speeds(peers: Sequence[Peer], child: Child, rounds: int) -> None:
    """In brackets ours against it: so many times as fast, with the same events so much less CPU; so many times the memory."""
    names = [peer.name for peer in peers]
    found: list[tuple[Load, dict[str, Speed]]] = []
    head(
        "latency a page",
        "events",
        *(f"{name}, events/s" for name in names),
        *(f"{name}, start counted" for name in names),
    )
    for load, row in measure(peers, child, lambda peer: rounds if peer in PEERS[:2] else 1):
        found.append((load, row))
        ours = row[names[0]]
        net = [f"{s.rate:,.0f}" + _ratio(ours.rate / s.rate, s, ours) for s in row.values()]
        whole = [f"{s.whole_rate:,.0f}" + _ratio(ours.whole_rate / s.whole_rate, s, ours) for s in row.values()]
        say(load, f"{load.events:,}", *net, *whole)
    print()
    head("latency a page", *(f"{name}, CPU µs an event" for name in names), *(f"{name}, MiB at most" for name in names))
    for load, row in found:
        ours = row[names[0]]
        cpu = [f"{s.cpu_us:.1f}" + _ratio(s.cpu_us / ours.cpu_us, s, ours) for s in row.values()]
        memory = [f"{s.peak_mib:.0f}" + _ratio(ours.peak_mib / s.peak_mib, s, ours) for s in row.values()]
        say(load, *cpu, *memory)
    print()


def _ratio(value: float, theirs: Speed, ours: Speed) -> str:
    return "" if theirs is ours else f" ({value:.2f})"


def faults(peers: Sequence[Peer], child: Child, only: str, backfills: int) -> None:
    peers = [peer for peer in peers if peer.keeps_position]
    head("what happens", *(peer.name for peer in peers))
    for case in (case for case in CASES if only in case.title):
        title = f"{backfills} {case.title}" if case.kills else case.title
        say(title, *(suffer(peer, child, case, backfills) for peer in peers))
    print()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers", description="This daemon beside others, on one simulator."
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="runs of ours and of Grove at each latency, for medians; others run once"
    )
    parser.add_argument("--only", default="", help="names of others, comma-separated")
    parser.add_argument("--fault", default="", help="only those whose title has this text")
    parser.add_argument("--backfills", type=int, default=3, help="so many are killed")
    parser.add_argument("--no-speed", action="store_true")
    parser.add_argument("--no-faults", action="store_true")
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else [peer.name for peer in PEERS]
    peers = [peer for peer in PEERS if peer in PEERS[:1] or peer.name in wanted]
    versions = ", ".join(f"{peer.name} {peer.install()}" for peer in peers)
    began = time.monotonic()
    with simulated_in_child(events=SIMULATED, days=30, profile="bulk") as child:
        if not given.no_speed:
            speeds(peers, child, given.rounds)
        if not given.no_faults:
            faults(peers, child, given.fault, given.backfills)
    print(f"{versions}; {time.strftime('%Y-%m-%d')}; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
