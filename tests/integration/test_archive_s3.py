"""The archive in a bucket of MinIO: the contract of all sinks, locks, parts, interrupted closings, verification."""

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import ConfigError, Repositioned, RetryableError
from streamer.model import Seq, SinkName
from streamer.ports import Finishing, SinkContext, SinkPosition
from streamer.sinks.archive import open_archive, probe_archive
from streamer.sinks.archive.layout import parse_object_key
from streamer.sinks.archive.options import ArchiveOptions, S3Options
from streamer.sinks.archive.read import read_archive, read_lines
from streamer.sinks.archive.s3 import PART_BYTES, S3Store
from streamer.sinks.archive.signing import keygen
from streamer.sinks.archive.verify import verify
from tests import outage, records
from tests.archive import ArchiveSide, Clock, Desk
from tests.integration.minio import PASSWORD, USER, Minio, minio
from tests.outage import id_of, truth
from tests.places import Place, until
from tests.simulation import Child, simulated_in_child
from tests.sink_contract import NAME, Answer, ServerSinkContract

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    with minio(tmp_path_factory.mktemp("minio")) as running:
        yield running


@pytest.fixture
def bucket(server: Minio) -> str:
    name = f"audit-{uuid.uuid4().hex[:12]}"
    server.client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def access(server: Minio, **options: Any) -> dict[str, Any]:
    keys = {"access_key_id": USER, "secret_access_key": PASSWORD}
    return {"endpoint_url": server.endpoint, "region": "us-east-1", **keys, **options}


class BucketSide(ArchiveSide):
    """Every batch closes the interval before it, so that the store is asked each time."""

    answers = frozenset[Answer]({"take", "later", "who", "gone"})

    def __init__(self, folder: Path, server: Minio, bucket: str) -> None:
        self._server, self._secret = server, folder / "secret"
        self._secret.write_text(PASSWORD)
        s3 = access(server, secret_access_key_file=str(self._secret))
        del s3["secret_access_key"]
        super().__init__(folder, roll={"size": 1}, s3=s3)
        self.place = f"s3://{bucket}/some/prefix"
        self.open_folder = folder / f"archive-{NAME}"

    async def say(self, answer: Answer) -> None:
        self._server.stop()
        if answer not in ("later", "gone"):
            self._server.start()
        self._secret.write_text("another" if answer == "who" else PASSWORD)


class TestBucketContract(ServerSinkContract):
    @pytest.fixture
    def side(self, tmp_path: Path, server: Minio, bucket: str) -> Iterator[BucketSide]:
        yield BucketSide(tmp_path, server, bucket)
        server.stop()
        server.start()


def desk_on(tmp_path: Path, server: Minio, bucket: str, clock: Clock | None = None, **options: Any) -> Desk:
    """A desk whose store is the bucket."""
    s3 = S3Options(**access(server, **options.pop("s3", {})))
    return Desk(tmp_path / "a", options, clock or Clock(), lambda _: S3Store(bucket, "p", s3))


def test_an_archive_in_a_bucket_is_whole_and_readable(tmp_path: Path, server: Minio, bucket: str) -> None:
    """Goal: the same archive as in a folder. Method: several intervals, verified with the key and counted, read back, tampered with."""
    keygen(tmp_path / "key")
    desk = desk_on(tmp_path, server, bucket, roll={"size": 20_000}, signing_key_file=tmp_path / "key")
    desk.write_events(100, step=10)
    desk.finish()
    place, s3 = f"s3://{bucket}/p", S3Options(**access(server))
    report = verify(place, tmp_path / "key.pub", deep=True, s3=s3)
    assert (report.findings, report.events, report.signatures) == ([], 100, "valid")
    assert len(list(read_archive(place, s3=s3))) == 100
    altered, missing = desk.objects()[:2]
    server.client().put_object(Bucket=bucket, Key=f"p/{altered}", Body=b"x")
    server.client().delete_object(Bucket=bucket, Key=f"p/{missing}")
    server.client().put_object(Bucket=bucket, Key="p/foreign", Body=b"x")
    found = {(f.kind, f.name) for f in verify(place, tmp_path / "key.pub", s3=s3).findings}
    assert found == {("altered", altered), ("missing", missing), ("foreign", "foreign")}


def test_parquet_in_a_bucket(tmp_path: Path, server: Minio, bucket: str) -> None:
    """Goal: Parquet, which is read from its end, is verified and read from a bucket too. Method: written, counted, read back."""
    desk = desk_on(tmp_path, server, bucket, objects="parquet")
    desk.write_events(30)
    desk.finish()
    place, s3 = f"s3://{bucket}/p", S3Options(**access(server))
    assert verify(place, deep=True, s3=s3).findings == []
    assert len(list(read_archive(place, s3=s3))) == 30


def test_a_closing_that_was_interrupted_is_finished_with_the_same_objects(
    tmp_path: Path, server: Minio, bucket: str
) -> None:
    """Goal: what an earlier attempt put there is taken, not replaced. Method: the network goes after each request in turn; versions are counted."""
    desk = desk_on(tmp_path, server, bucket, roll={"size": 1})
    desk.write_events(40, step=40)
    client = desk.store._client()
    for requests in range(1, 40):
        left = requests

        def cut(**_: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise ConnectionError("the cable is out")

        client.meta.events.register("before-send.s3", cut, unique_id="cut")
        try:
            bookmark = desk.archive.finish()
        except RetryableError:
            continue
        finally:
            client.meta.events.unregister("before-send.s3", unique_id="cut")
        assert bookmark is not None
        break
    else:
        raise AssertionError("it never came to its end")
    assert requests > 5
    versions = server.client().list_object_versions(Bucket=bucket)["Versions"]
    closed = [v["Key"] for v in versions if v["Key"].removeprefix("p/") in {*desk.objects(), *desk.manifests()}]
    assert len(closed) == len(set(closed)) > 2
    report = verify(f"s3://{bucket}/p", s3=S3Options(**access(server)))
    assert (report.findings, report.events) == ([], 40)


def test_large_objects_go_up_in_parts(tmp_path: Path, server: Minio, bucket: str) -> None:
    """Goal: size is no limit, and an upload that is made again is not doubled. Method: a file of two parts and a bit, put twice."""
    store = S3Store(bucket, "", S3Options(**access(server)))
    size = 2 * PART_BYTES + 12_345
    for _ in range(2):
        (tmp_path / "large").write_bytes(bytes(size))
        assert store.place("large", tmp_path / "large", "f" * 64) == ("f" * 64, size)
    head = server.client().head_object(Bucket=bucket, Key="large")
    assert head["ContentLength"] == size
    assert head["ETag"].strip('"').endswith("-3")
    assert len(server.client().list_object_versions(Bucket=bucket)["Versions"]) == 1


def test_somebody_elses_object_is_not_taken_for_ours(tmp_path: Path, server: Minio, bucket: str) -> None:
    """Goal: a name that is taken by other bytes holds the sink. Method: an object of that name without our mark."""
    server.client().put_object(Bucket=bucket, Key="k", Body=b"x")
    (tmp_path / "file").write_bytes(b"y")
    with pytest.raises(ConfigError, match="is there and is not ours"):
        S3Store(bucket, "", S3Options(**access(server))).place("k", tmp_path / "file", "f" * 64)


def test_locks_holds_and_encryption_are_set(tmp_path: Path, server: Minio, bucket: str) -> None:
    """Goal: every object and manifest is protected as configured. Method: what the server says of each."""
    protection = {"lock": {"mode": "governance", "period": "1d"}, "legal_hold": True, "kms_key_id": "audit-key"}
    desk = desk_on(tmp_path, server, bucket, s3=protection)
    desk.write_events(20)
    desk.finish()
    for key in [*desk.objects(), *desk.manifests()]:
        head = server.client().head_object(Bucket=bucket, Key=f"p/{key}")
        assert head["ObjectLockMode"] == "GOVERNANCE"
        assert timedelta(hours=23) < head["ObjectLockRetainUntilDate"] - datetime.now(UTC) < timedelta(hours=25)
        assert head["ObjectLockLegalHoldStatus"] == "ON"
        assert head["ServerSideEncryption"] == "aws:kms"
        assert "audit-key" in head["SSEKMSKeyId"]
    assert verify(f"s3://{bucket}/p", s3=S3Options(**access(server))).whole


def test_retention_leaves_what_is_locked(tmp_path: Path, server: Minio, bucket: str) -> None:
    """Goal: never delete what is locked. Method: one old day under legal hold, one not; retention over both."""
    clock = Clock()
    desk = desk_on(tmp_path, server, bucket, clock, retention="30d")
    desk.write_events(20)
    desk.finish()
    held, free = desk.objects()
    server.client().put_object_legal_hold(Bucket=bucket, Key=f"p/{held}", LegalHold={"Status": "ON"})
    clock.now += 40 * 86_400
    assert desk.tick()
    assert desk.objects() == [held]
    report = verify(f"s3://{bucket}/p", s3=S3Options(**access(server)))
    assert (report.findings, report.expired) == ([], 1)
    assert desk.manifest_of("retention")["expired"] == [free]


class Lake:
    """A daemon's archive in a bucket, and what is in it."""

    def __init__(self, folder: Path, server: Minio, bucket: str) -> None:
        keygen(folder / "key")
        s3, self.place, self._public = access(server), f"s3://{bucket}/p", folder / "key.pub"
        self.options = {"type": "archive", "path": self.place, "s3": s3, "signing_key_file": str(folder / "key")}
        self._s3 = S3Options(**s3)
        self._store = S3Store(bucket, "p", self._s3)

    def ids(self, kind: str) -> list[bytes]:
        """Of the closed objects of a kind, each as often as it is there."""
        found = [(key, name) for key, _ in self._store.walk() if (name := parse_object_key(key))]
        mine = [key for key, name in found if name.partition.kind == kind]
        return sorted(id_of(line) for key in mine for line in read_lines(self._store, key))

    def is_whole(self) -> bool:
        report = verify(self.place, self._public, deep=True, s3=self._s3)
        return (report.findings, report.signatures) == ([], "valid")


def tailing(folder: Path, child: Child, lake: Lake) -> Place:
    place = Place(folder, child.base_url).change("enrich", {"directory": None}).change("sources.acme.start", "3d")
    return place.change("sinks", {"lake": lake.options})


def test_a_renamed_sink_goes_on_in_the_bucket(tmp_path: Path, server: Minio, bucket: str) -> None:
    """Goal: a new name loses nothing and sends nothing twice: the open segment in the state folder, a replay that is owed, and the chain go on. Method: the
    daemon is stopped before anything is closed, the sink renamed, more events, runs to the end; read back from the bucket, and verified."""
    lake = Lake(tmp_path, server, bucket)
    with simulated_in_child(events=120, days=2, seed=5) as child:
        place = tailing(tmp_path, child, lake)
        with outage.running(place) as daemon:
            until(lambda: daemon.has_all("lake", 120))
        ask = [sys.executable, "-m", "streamer", "replay", "-c", str(place.config), "--sink", "lake", "--since", "3d"]
        subprocess.run(ask, check=True, capture_output=True, env=outage.ENV)
        assert lake.ids("events") == [], "all of it is in the open segment"
        assert list((tmp_path / "state" / "archive-lake").glob("*.segment"))
        place.change("sinks", {"datalake": lake.options | {"was": "lake"}})
        for _ in range(2):
            child.control("POST", "events", {"count": 20})
            assert outage.once(place) == 0, (tmp_path / "daemon.log").read_text()
        assert lake.ids("events") == sorted(truth(child))
    assert [path.name for path in (tmp_path / "state").glob("archive-*")] == ["archive-lake"]
    assert (len(lake.ids("events")), len(lake.ids("replay"))) == (160, 120)
    assert lake.is_whole()


def test_the_verbs_reach_the_bucket(tmp_path: Path, server: Minio, bucket: str) -> None:
    """Goal: `replay --archive` goes there as the configuration says, and `verify`, which an auditor runs without one, as the variables of the AWS tools say.
    Method: a store by its host's name, so that buckets are not taken for hosts; what each prints."""
    lake = Lake(tmp_path, server, bucket)
    environment = {
        "AWS_ENDPOINT_URL_S3": f"http://localhost:{server.port}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": USER,
        "AWS_SECRET_ACCESS_KEY": PASSWORD,
    }

    def streamer(*verb: str, **more: str) -> str:
        command = [sys.executable, "-m", "streamer", *verb]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=outage.ENV | more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with simulated_in_child(events=60, days=2, seed=5) as child:
        place = tailing(tmp_path, child, lake)
        assert outage.once(place) == 0
        said = streamer("replay", "-c", str(place.config), "--sink", "lake", "--since", "3d", "--archive", lake.place)
        assert said == "60 events will be delivered again to lake\n"
    said = streamer("verify", lake.place, "--key", str(tmp_path / "key.pub"), **environment)
    assert "whole" in said


def test_a_lost_state_folder_costs_what_is_before_start(tmp_path: Path, server: Minio, bucket: str) -> None:
    """Goal: what the manual says of a pod whose disk is gone: with `start: now` the open segment's events are missing, are named, and a repair brings them; else
    all since `start` comes again and the chain goes on. Method: the state removed with an open segment, and once more after the repair."""
    lake = Lake(tmp_path, server, bucket)
    with simulated_in_child(events=60, days=2, seed=5) as child:
        place = tailing(tmp_path, child, lake).change(
            "sources.acme.overlap", "1s"
        )  # reconcile asks for nothing younger
        with outage.running(place) as daemon:
            until(lambda: daemon.has_all("lake", 60))
        shutil.rmtree(tmp_path / "state")
        place.change("sources.acme.start", "now")
        assert outage.once(place) == 0
        ask = [sys.executable, "-m", "streamer", "reconcile", "-c", str(place.config), "--since", "3d"]
        for more, code, words in ((("--archive", lake.place), 1, "missing=60"), (("--repair",), 1, "missing=0")):
            said = subprocess.run([*ask, *more], check=False, capture_output=True, text=True, env=outage.ENV)
            assert (said.returncode, words in said.stdout) == (code, True), said.stdout + said.stderr
        assert outage.once(place) == 0
        assert (lake.ids("events"), lake.ids("late")) == ([], sorted(truth(child)))
        shutil.rmtree(tmp_path / "state")
        place.change("sources.acme.start", "3d")
        assert outage.once(place) == 0
        assert lake.ids("events") == lake.ids("late") == sorted(truth(child))
        assert lake.is_whole()


async def test_what_is_wrong_with_a_bucket_is_said(tmp_path: Path, server: Minio, bucket: str) -> None:
    """Goal: `check --online` and the first write name the trouble. Method: a good bucket, one that is not there, a wrong key, nobody there."""

    def context() -> SinkContext:
        name = SinkName("lake")
        return SinkContext(name=name, position=SinkPosition(Seq(0), None, name), journal="j", folder=tmp_path / "state")

    def options(place: str, **s3: Any) -> ArchiveOptions:
        return ArchiveOptions(path=place, s3=S3Options(**access(server, **s3)))

    lock = {"mode": "compliance", "period": "1d"}
    assert "locks objects" in await probe_archive(options(f"s3://{bucket}", lock=lock), context())
    for wrong in (options("s3://not-there-at-all"), options(f"s3://{bucket}", secret_access_key="wrong")):
        with pytest.raises(ConfigError):
            await probe_archive(wrong, context())
        async with open_archive(wrong, context()) as sink:
            with pytest.raises(ConfigError, match="sink lake: archive: s3://"):
                await sink.write(records.batch(1))
    with pytest.raises(RetryableError):
        await probe_archive(options(f"s3://{bucket}", endpoint_url="http://127.0.0.1:9"), context())
    async with open_archive(options(f"s3://{bucket}"), context()) as sink:
        with pytest.raises(Repositioned):
            await sink.write(records.batch(1))
        await sink.write(records.batch(1))
        assert isinstance(sink, Finishing)
        await sink.finish()
    assert len(list(read_archive(f"s3://{bucket}", s3=S3Options(**access(server))))) == 1
