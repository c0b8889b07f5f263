"""`python -m tests.chaos.run --seed 1 --kills 100`: prints one JSON object; exit 0 when every invariant held.

Rounds of lives that end badly, each followed by a calm one in which everything is counted. The program mounts its disk in a mount
namespace of its own, which ends with it.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from tests.arrivals import Line, Truth, file_lines, truth
from tests.chaos import schedule
from tests.chaos.checks import body, judge_all, lies, peak_mib, proves, settles
from tests.chaos.schedule import Act, Kinds, Life
from tests.chaos.world import World, world
from tests.places import until

MOST_MIB = 250
"""Of real memory, at any time; with Kafka and everything, 110 are usual."""
STOP_S = 30.0
"""SIGTERM to exit; the daemon's own deadline is 20 s."""
QUIET_S = 240.0
"""Until everything is everywhere once all is well: what backs off waits up to a minute."""
LIVE_S = 20.0
"""What a fair life gets to become live in."""
CALM_EVENTS = 150


@dataclass
class Report:
    seed: int
    kills: int = 0
    points: dict[str, int] = field(default_factory=dict)
    """Named points at which it died by its own hand."""
    stops: int = 0
    """SIGTERM, each answered with exit 0 in time."""
    productive: int = 0
    """Lives in which the file got something."""
    rounds: int = 0
    events: int = 0
    faults: int = 0
    by_fault: dict[str, int] = field(default_factory=dict)
    arrived: dict[str, int] = field(default_factory=dict)
    """Lines in each sink at the end; more than `events` in the webhook are repetitions, which it allows."""
    peak_mib: float = 0.0
    seconds: float = 0.0
    left_out: list[str] = field(default_factory=list)
    """What could not be done here."""
    trouble: list[str] = field(default_factory=list)


class Chaos:
    def __init__(self, world: World, report: Report, seed: int, storm_s: float) -> None:
        self.world, self.report, self._storm_s = world, report, storm_s
        self._chance = random.Random(f"{seed}/storms")
        self._full = False

    # --- a life ------------------------------------------------------------------------------------------------------

    def live(self, life: Life) -> None:
        world, report = self.world, self.report
        world.set_faults(life.faults)
        world.set_weather(life.weather)
        if life.configuration:
            world.configure(life.configuration)
            world.acts["configuration changed"] += 1
        if life.clock_s:
            world.nursery.step(life.clock_s)
            world.acts["clock wrong at start"] += 1
        before = world.file_stamp()
        pid = world.nursery.spawn(world.config, point=life.point)
        status = self._await_live(pid) if life.fair else None
        if status is None:
            status = self._pass_through(pid, life.acts, life.seconds)
        report.peak_mib = max(report.peak_mib, peak_mib(pid))
        if status is None and life.ending == "stop":
            os.kill(pid, signal.SIGTERM)
            status = world.nursery.wait(pid, STOP_S)
            if status == 0:
                report.stops += 1
        if status is None:
            if life.ending == "stop":
                report.trouble.append(f"life {life.number}: SIGTERM was not answered in {STOP_S:g} s")
            os.kill(pid, signal.SIGKILL)
            status = world.nursery.wait(pid, 30)
        self._judge_end(life, status)
        report.productive += world.file_stamp() != before
        if self._full:
            self._full = False
            world.free()
        if life.clock_s or any(act.what == "step clock" for act in life.acts):
            world.nursery.step(0)

    def _await_live(self, pid: int) -> int | None:
        """However slow this machine is just now. Its exit status if it has ended meanwhile."""
        deadline = time.monotonic() + LIVE_S
        while (status := self.world.nursery.wait(pid, 0.05)) is None and time.monotonic() < deadline:
            states = self.world.place.states().values()
            if states and set(states) == {"live"}:
                break
        return status

    def _judge_end(self, life: Life, status: int | None) -> None:
        report = self.report
        if status == -signal.SIGKILL:
            report.kills += 1
            if life.point is not None:
                where = schedule.point_name(life.point)
                report.points[where] = report.points.get(where, 0) + 1
        elif status in self._deadly(life):
            report.kills += 1  # told to read or to stop before it listened to signals, which ends any process
        elif not (status == 0 and life.ending == "stop"):
            report.trouble.append(f"life {life.number} ended with {status}: {self.log_tail()}")

    def _deadly(self, life: Life) -> set[int]:
        """The statuses of the signals that it was sent, besides SIGKILL."""
        hung_up = any(act.what == "change configuration" and act.size for act in life.acts)
        return {-signal.SIGTERM} if life.ending == "stop" else {-signal.SIGHUP} if hung_up else set()

    def _pass_through(self, pid: int, acts: list[Act], seconds: float) -> int | None:
        """The acts at their moments, then the rest of the time. Its exit status if it has ended meanwhile."""
        began, ends = time.monotonic(), list[tuple[float, Act]]()
        for at, act in [*((act.at_s, act) for act in acts), (seconds, None)]:
            for over, started in sorted(ends, key=lambda end: end[0]):
                if over <= at:
                    if (status := self._wait(pid, began + over)) is not None:
                        return status
                    self._end(started)
                    ends.remove((over, started))
            if (status := self._wait(pid, began + at)) is not None:
                return status
            if act is not None:
                self._begin(act, pid)
                if act.lasts_s:
                    ends.append((at + act.lasts_s, act))
        for _, started in ends:
            self._end(started)
        return None

    def _wait(self, pid: int, until: float) -> int | None:
        return self.world.nursery.wait(pid, max(until - time.monotonic(), 0))

    def _begin(self, act: Act, pid: int) -> None:
        world = self.world
        match act.what:
            case "burst":
                world.burst(int(act.size))
                return
            case "freeze":
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    time.sleep(act.size)
                    os.kill(pid, signal.SIGCONT)
            case "fill disk":
                self._full = True
                world.fill(int(act.size))
            case "step clock":
                world.nursery.step(act.size)
            case "rotate key":
                self._rotate(act)
            case "restart webhook":
                world.close_webhook()
                time.sleep(act.size)
                world.open_webhook()
            case "restart kafka":
                world.restart_kafka()
            case "change configuration":
                world.configure(schedule.configuration(self._chance))
                if act.size:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGHUP)
        world.acts[act.what] += 1

    def _rotate(self, act: Act) -> None:
        """As it should be (both keys for a while), or with a gap in which the daemon has a key that is refused."""
        world, key = self.world, self.world.new_key()
        if act.lasts_s:
            world.accept(key)
            time.sleep(act.lasts_s)
            world.write_key(key)
        else:
            world.accept(key, f"sk-admin-simulated-{world.keys - 1}")
            world.write_key(key)

    def _end(self, act: Act) -> None:
        if act.what == "fill disk":
            self.world.free()

    # --- a calm life, in which everything is counted -----------------------------------------------------------------

    def count(self, since: str) -> None:
        """All is well again: everything arrives, its numbers are true, a storm leaves nothing behind, and it ends in time."""
        world, report = self.world, self.report
        world.heal()
        log_from = self._log.stat().st_size
        pid = world.nursery.spawn(world.config)
        wanted = self._quiet(pid)
        before = world.metrics()
        world.burst(CALM_EVENTS)
        wanted = self._quiet(pid)
        report.trouble += lies(before, world.metrics(), CALM_EVENTS, world.place.document["sinks"])
        held = body(pid)
        if self._storm_s:
            self._storm(pid)
            wanted = self._quiet(pid)
            report.trouble += settles(pid, held, 30)
        report.peak_mib = max(report.peak_mib, peak_mib(pid))
        os.kill(pid, signal.SIGTERM)
        if (status := world.nursery.wait(pid, STOP_S)) != 0:
            report.trouble.append(f"a calm life ended with {status}: {self.log_tail()}")
        with self._log.open() as log:
            log.seek(log_from)
            report.trouble += [f"a task was left: {line}" for line in log if "still_running" in line]
        if report.peak_mib > MOST_MIB:
            report.trouble.append(f"{report.peak_mib:.0f} MiB of memory, {MOST_MIB} are the limit")
        self._close(wanted, since)
        report.rounds += 1

    def _close(self, wanted: Truth, since: str) -> None:
        world, report = self.world, self.report
        last = world.nursery.spawn(world.config, once=True)
        if (status := world.nursery.wait(last, 120)) != 0:
            report.trouble.append(f"`run --once` ended with {status}: {self.log_tail()}")
        for sink, found in judge_all(world, wanted).items():
            report.arrived[sink] = found.events
            report.trouble += [f"{sink}: {problem}" for problem in found.problems]
        report.trouble += proves(world, since)
        report.events = len(wanted)

    def _quiet(self, pid: int) -> Truth:
        """Until every event that is or will be visible is acknowledged by every sink, and their numbers have been measured."""
        world = self.world
        wanted = truth(world.child)

        def done() -> bool:
            assert world.nursery.wait(pid, 0) is None, f"a calm life ended: {self.log_tail()}"
            status = world.place.status()
            sinks = status.get("sinks", [])
            return bool(sinks) and all(row["acked"] >= len(wanted) and row["backlog"] == 0 for row in sinks)

        try:
            until(done, QUIET_S)
        except AssertionError:
            status = world.place.status()
            rows = [(r["sink"], r["acked"], r["backlog"], r["state"], r["error"]) for r in status.get("sinks", [])]
            seen = {msgspec.json.decode(line, type=Line).id for line in file_lines(world.disk)}
            lost = [row for i, row in wanted.items() if i not in seen]
            raise AssertionError(
                f"{lost[:10]} are not in the file; not everything is everywhere after {QUIET_S:g} s: {len(wanted)} wanted, {rows}, {status.get('listings')}\n{self.log_tail()}"
            ) from None
        return wanted

    def _storm(self, pid: int) -> None:
        """Bad weather and a bad API without a death, then all is well again."""
        world, chance = self.world, self._chance
        ends = time.monotonic() + self._storm_s
        while time.monotonic() < ends:
            faults = schedule.faults(chance, date_may_lie=False, holding=False)
            world.set_faults(faults)
            world.set_weather({road: schedule.weather(chance) for road in schedule.ROADS})
            world.burst(chance.randint(1, 40))
            act = chance.choice(("freeze", "fill disk", "rotate key", "restart webhook", "change configuration"))
            self._begin(Act(0, act, chance.uniform(0.1, 0.6) if act != "fill disk" else 4096), pid)
            time.sleep(chance.uniform(0.2, 1))
            world.free()
        self._full = False
        world.set_faults({})
        world.set_weather({})
        world.configure({})
        os.kill(pid, signal.SIGHUP)

    @property
    def _log(self) -> Path:
        return self.world.folder / "daemon.log"

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-2500:] if self._log.exists() else ""


# --- the program -----------------------------------------------------------------------------------------------------


def run(given: argparse.Namespace, folder: Path) -> Report:
    kinds = Kinds(kafka="kafka" not in given.without, clock="clock" not in given.without)
    report, began = Report(given.seed, left_out=sorted(given.without)), time.monotonic()
    ends = began + given.minutes * 60 if given.minutes else float("inf")
    since = (datetime.now(UTC) - timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    with world(folder, given.seed, kinds, given.events) as made:
        made.heal()
        chaos = Chaos(made, report, given.seed, given.storm)
        try:
            counted = 0
            for life in schedule.lives(given.seed, kinds, given.first):
                chaos.live(life)
                is_over = report.kills >= given.kills or time.monotonic() > ends
                if is_over or report.kills >= counted + given.round:
                    chaos.count(since)
                    counted = report.kills
                    _say(given, report, made, life.number)
                if is_over or report.trouble:
                    break
        except AssertionError as error:
            report.trouble.append(str(error))
        report.by_fault = dict(sorted(made.struck().items()))
        if report.trouble and given.keep:
            shutil.copytree(made.disk, folder / "left")
    report.faults = sum(report.by_fault.values())
    report.seconds = round(time.monotonic() - began, 1)
    return report


def _say(given: argparse.Namespace, report: Report, made: World, number: int) -> None:
    faults = Counter(made.struck()).total()
    sys.stderr.write(
        f"seed {given.seed}: {report.kills} kills, {report.productive} productive, {faults} faults, {report.events} events, life {number}, {report.trouble or 'all is well'}\n"
    )
    sys.stderr.flush()


@contextmanager
def _workplace(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
    else:
        with tempfile.TemporaryDirectory(prefix="chaos-") as name:
            yield Path(name)


def in_own_namespace() -> None:
    """Begin again where we may mount: as root in a mount namespace, else in one of our own users too."""
    if os.environ.get("CHAOS_NAMESPACE") == "1":
        return
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--mount", sys.executable, "-m", "tests.chaos.run", *sys.argv[1:]]
    os.execvpe(command[0], command, os.environ | {"CHAOS_NAMESPACE": "1"})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10**9, help="So many.")
    parser.add_argument("--minutes", type=float, default=0, help="So long, and then the counting; 0: until `kills`.")
    parser.add_argument("--round", type=int, default=100, help="Kills between two countings.")
    parser.add_argument("--storm", type=float, default=20, help="Seconds of bad weather in each calm life.")
    parser.add_argument("--events", type=int, default=3000, help="Events that lie in the past at the start.")
    parser.add_argument("--first", type=int, default=0, help="The life to begin with, to repeat a part of a run.")
    parser.add_argument("--without", action="append", default=[], choices=("kafka", "clock"), help="What is left out.")
    parser.add_argument("--keep", type=Path, help="A folder that stays, for looking at it afterwards.")
    given = parser.parse_args()
    if given.kills == 10**9 and not given.minutes:
        parser.error("say --kills or --minutes")
    in_own_namespace()
    with _workplace(given.keep) as folder:
        report = run(given, folder)
    sys.stdout.write(json.dumps(asdict(report), indent=1) + "\n")
    sys.exit(1 if report.trouble else 0)


if __name__ == "__main__":
    main()
