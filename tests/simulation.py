"""The simulator for tests: in the test's own process, or in a child that a crash or speed test can be told apart from."""

import json
import os
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from streamer.simulator import DEFAULT_KEY, Simulator, SimulatorOptions
from tests.warm import start

KEY = DEFAULT_KEY
STOP_LIMIT_S = 20
REPEATED = {"api_keys": "--api-key", "scopes": "--scope", "faults": "--fault"}


@asynccontextmanager
async def simulated(**options: Any) -> AsyncIterator[Simulator]:
    """A running simulator in this process; `options` are those of SimulatorOptions."""
    async with Simulator(SimulatorOptions(**options)).serve() as simulator:
        yield simulator


@dataclass(frozen=True)
class Child:
    """A simulator in a process of its own, steered over HTTP as a user would."""

    base_url: str
    pid: int

    def control(self, method: str, path: str, body: Any = None) -> bytes:
        """Ask `/_sim/` + path; `body` is sent as JSON, bytes as they are."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        url = self.base_url.removesuffix("/v1") + "/_sim/" + path
        request = urllib.request.Request(url, data=data, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: bytes = response.read()
            return answer

    def truth(self, listing: str, *, raw: bool = False) -> list[dict[str, Any]]:
        lines = self.control("GET", f"truth?listing={listing}" + ("&raw=1" if raw else "")).splitlines()
        return [json.loads(line) for line in lines]

    def set_faults(self, **settings: dict[str, Any]) -> None:
        self.control("PUT", "faults", settings)

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads(self.control("GET", "stats"))
        return stats


@contextmanager
def simulated_in_child(**options: Any) -> Iterator[Child]:
    """`options` are those of SimulatorOptions; the child stops with us, whatever happens."""
    arguments: list[str] = []
    for name, value in options.items():
        flag = REPEATED.get(name, "--" + name.replace("_", "-"))
        for item in value if name in REPEATED else (value,):
            arguments += [flag, str(item)]
    with ExitStack() as stack:
        (kept, hold), (said, out) = os.pipe(), os.pipe()
        process = start("streamer.simulator", "--stop-with-parent", *arguments, stdin=kept, stdout=out)
        os.close(kept)
        os.close(out)
        printed = stack.enter_context(open(said))
        try:
            base_url = printed.readline().strip()
            assert base_url, f"the simulator did not start: {arguments}"
            yield Child(base_url, process.pid)
        finally:
            os.close(hold)
            try:
                process.wait(STOP_LIMIT_S)
            finally:
                process.kill()
