"""The syslog sink against a real rsyslog, over TLS with certificates on both sides, and over TCP."""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streamer.catalog import SEVERITY_NUMBERS
from streamer.errors import RetryableError
from streamer.formats import make_format
from streamer.model import Batch, Message
from streamer.sinks.syslog import SyslogOptions, open_syslog
from tests.certificates import Authority
from tests.integration.child import debian_root, running, wait_until
from tests.ports import free_port
from tests.receiver import batch, context
from tests.records import records

pytestmark = pytest.mark.integration

PACKAGES = ["rsyslog", "rsyslog-gnutls", "libestr0", "libfastjson4", "liblognorm5"]
CONFIG = """
global(workDirectory="{folder}" maxMessageSize="64k" parser.escapeControlCharacterTab="off" DefaultNetstreamDriver="gtls"
  DefaultNetstreamDriverCAFile="{ca}" DefaultNetstreamDriverCertFile="{cert}" DefaultNetstreamDriverKeyFile="{key}")
module(load="imtcp")
template(name="all" type="list") {{
  constant(value="{{") property(name="pri" outname="pri" format="jsonf") constant(value=",")
  property(name="timestamp" dateFormat="rfc3339" outname="timestamp" format="jsonf") constant(value=",")
  property(name="hostname" outname="hostname" format="jsonf") constant(value=",")
  property(name="app-name" outname="app" format="jsonf") constant(value=",")
  property(name="msgid" outname="msgid" format="jsonf") constant(value=",")
  property(name="structured-data" outname="sd" format="jsonf") constant(value=",")
  property(name="msg" outname="msg" format="jsonf") constant(value="}}\\n")
}}
input(type="imtcp" address="127.0.0.1" port="{tls}" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid")
input(type="imtcp" address="127.0.0.1" port="{tcp}" StreamDriver.Name="ptcp")
action(type="omfile" file="{out}" template="all" asyncWriting="off" flushOnTXEnd="on")
"""


@dataclass
class Rsyslog:
    """Its ports stay the same when it is started again."""

    folder: Path

    def __post_init__(self) -> None:
        self.tls, self.tcp = free_port(), free_port()
        self.authority = Authority(self.folder)
        self.out = self.folder / "out.jsonl"
        root = debian_root("rsyslog", PACKAGES)
        libraries = next(root.glob("usr/lib/*/rsyslog")).parent
        self._program, self._modules = root / "usr/sbin/rsyslogd", libraries / "rsyslog"
        self._env = {**os.environ, "LD_LIBRARY_PATH": f"{libraries}:{root / 'lib' / libraries.name}"}
        cert, key = self.authority.issue("rsyslog")
        (self.folder / "rsyslog.conf").write_text(
            CONFIG.format(
                folder=self.folder, ca=self.authority.file, cert=cert, key=key, tls=self.tls, tcp=self.tcp, out=self.out
            )
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        command = [str(self._program), "-n", "-f", str(self.folder / "rsyslog.conf"), "-i", str(self.folder / "pid")]
        with running([*command, "-M", str(self._modules)], self.folder / "log", self._listens, self._env):
            yield

    def _listens(self, said: str) -> bool:
        assert "Could not create" not in said, said
        wanted = {f"{port:04X}" for port in (self.tls, self.tcp)}
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return wanted <= {s[1].partition(":")[2] for s in sockets if s[3] == "0A"}

    async def received(self, count: int) -> list[dict[str, Any]]:
        def there() -> bool:
            return self.out.exists() and self.out.read_bytes().count(b"\n") >= count

        await asyncio.to_thread(wait_until, there, 20, lambda: (self.folder / "log").read_text()[-1000:])
        return [json.loads(line) for line in self.out.read_bytes().splitlines()]

    def options(self, *, tls: bool = True, **more: Any) -> SyslogOptions:
        cert, key = self.authority.issue("streamer")
        files = {"ca_file": self.authority.file, "cert_file": cert, "key_file": key}
        where = {"host": "localhost", "port": self.tls if tls else self.tcp, "tls": files if tls else None}
        return SyslogOptions.model_validate({**where, "hostname": "collector-1", **more})


@pytest.fixture
def rsyslog(tmp_path: Path) -> Rsyslog:
    return Rsyslog(tmp_path)


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "tcp"])
async def test_rsyslog_reads_every_part_of_every_message(rsyslog: Rsyslog, tmp_path: Path, tls: bool) -> None:
    """Goal: RFC 5424 with octet counting as rsyslog reads it; method: header, structured data and text of 200 events, compared."""
    events = batch(200)
    with rsyslog.running():
        async with open_syslog(rsyslog.options(tls=tls), context(tmp_path)) as sink:
            for start in range(0, 200, 50):
                await sink.write(Batch(events.messages[start : start + 50]))
            found = await rsyslog.received(200)
    assert len(found) == 200
    for message, sent in zip(found, events.messages, strict=True):
        envelope = sent.record.envelope
        assert message["msg"].removeprefix(" ").encode() == sent.body
        assert message["pri"] == str(13 * 8 + SEVERITY_NUMBERS[envelope.severity].syslog)
        assert message["timestamp"] == envelope.time.isoformat().replace("+00:00", "Z")
        assert (message["hostname"], message["app"]) == ("collector-1", "openai-audit")
        assert message["msgid"] == envelope.family
        assert f'id="{envelope.id}"' in message["sd"]
        assert f'type="{envelope.type}"' in message["sd"]


@pytest.mark.parametrize("name", ["cef", "leef"])
async def test_cef_and_leef_stand_at_the_start_of_the_text(rsyslog: Rsyslog, tmp_path: Path, name: Any) -> None:
    """Goal: text formats arrive as they are; method: encode real records, read the text back."""
    encode = make_format(name).encode
    events = [Message(r, encode(r)) for r in records(20)]
    with rsyslog.running():
        async with open_syslog(rsyslog.options(format=name), context(tmp_path)) as sink:
            await sink.write(Batch(events))
            found = await rsyslog.received(20)
    texts = [message["msg"].removeprefix(" ") for message in found]
    assert [t.encode() for t in texts] == [m.body for m in events]
    assert all(t.startswith(f"{name.upper()}:") for t in texts)


async def test_rsyslog_is_killed_and_comes_back(rsyslog: Rsyslog, tmp_path: Path) -> None:
    """Goal: a restart of the receiver is waited for, and every event of a batch that was taken after it arrives; method: stop it between batches."""
    async with open_syslog(rsyslog.options(), context(tmp_path)) as sink:
        with rsyslog.running():
            await sink.write(batch(10))
            assert len(await rsyslog.received(10)) == 10
        refused = 0
        async with asyncio.timeout(20):
            while not refused:
                try:
                    await sink.write(batch(1))
                except RetryableError:
                    refused += 1
        with rsyslog.running():
            await sink.write(batch(10))
            assert len(await rsyslog.received(20)) == 20
