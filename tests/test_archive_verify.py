"""Verification: every kind of tampering is named for what it is, with our program and without it."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.errors import ConfigError
from streamer.sinks.archive.manifest import Head, Manifest, decode_manifest, encode_manifest
from streamer.sinks.archive.report import FINDINGS_KEPT, Report, show_json, show_text
from streamer.sinks.archive.signing import keygen, load_signer
from streamer.sinks.archive.verify import verify
from tests.archive import Desk

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed archive of five closed intervals, its key beside it."""
    folder = tmp_path_factory.mktemp("pristine")
    keygen(folder / "key")
    desk = Desk(folder / "a", {"roll": {"size": 1}, "signing_key_file": folder / "key", "compression": "none"})
    for n in range(5):
        desk.clock.now += 60
        desk.write_events(4, 1 + 4 * n)
    desk.finish()
    desk.close()
    return folder


@pytest.fixture
def desk(pristine: Path, tmp_path: Path) -> Desk:
    """A copy of it to tamper with."""
    shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)
    return Desk(tmp_path / "a")


def found(report: Report) -> set[tuple[str, str]]:
    assert report.whole == (not report.findings)
    return {(f.kind, f.name) for f in report.findings}


def verified(desk: Desk, **options: str) -> Report:
    return verify(str(desk.root), desk.root.with_name("key.pub"), **options)  # type: ignore[arg-type]


def test_an_archive_nobody_touched_is_whole(desk: Desk) -> None:
    """Goal: no false alarm, and true figures. Method: counted against what was written; progress ends at all bytes."""
    steps: list[tuple[int, int]] = []
    report = verify(str(desk.root), desk.root.with_name("key.pub"), lambda done, total: steps.append((done, total)))
    assert found(report) == set()
    assert (report.events, report.signatures, len(report.keys)) == (20, "valid", 1)
    assert report.objects == len(desk.objects())
    assert steps[-1] == (report.stored_bytes, report.stored_bytes)
    assert report.stored_bytes == sum((desk.root / key).stat().st_size for key in desk.objects())


@pytest.mark.parametrize(
    ("name", "damage", "kind"),
    [
        ("_manifests/archive.json", None, "missing"),
        ("_manifests/archive.json", b"{", "altered"),
        ("_manifests/latest.json", None, "missing"),
        ("_manifests/latest.json", b"{", "altered"),
    ],
)
def test_what_says_which_archive_it_is_and_where_it_ends_must_be_there(
    desk: Desk, name: str, damage: bytes | None, kind: str
) -> None:
    """Goal: the two files beside the chain are looked at, too. Method: each taken away, and overwritten."""
    if damage is None:
        (desk.root / name).unlink()
    else:
        (desk.root / name).write_bytes(damage)
    assert (kind, name) in found(verified(desk))


# --- objects ---------------------------------------------------------------------------------------------------------


def test_a_flipped_byte_is_altered(desk: Desk) -> None:
    """Goal: one changed byte is found. Method: one bit in the middle of one object."""
    key = desk.objects()[2]
    data = bytearray((desk.root / key).read_bytes())
    data[len(data) // 2] ^= 1
    (desk.root / key).write_bytes(data)
    assert found(verified(desk)) == {("altered", key)}


def test_a_cut_file_is_altered(desk: Desk) -> None:
    """Goal: a shortened object is found and the sizes are said. Method: its last byte taken away."""
    key = desk.objects()[0]
    size = (desk.root / key).stat().st_size
    os.truncate(desk.root / key, size - 1)
    report = verified(desk)
    assert found(report) == {("altered", key)}
    assert report.findings[0].detail == f"{size - 1} bytes instead of {size}"


def test_a_deleted_object_is_missing(desk: Desk) -> None:
    """Goal: an absence is named. Method: one object removed."""
    key = desk.objects()[1]
    (desk.root / key).unlink()
    assert found(verified(desk)) == {("missing", key)}


@pytest.mark.parametrize(
    "name",
    [
        "source=acme/date=2026-01-01/events-20260101T020000000Z-000000000100-000000000200.jsonl",
        "source=acme/date=2026-01-01/events-20991231T235959999Z-000000000100-000000000200.jsonl",
        "source=acme/date=2026-01-01/.hidden",
        "_manifests/000000/000000001.json.bak",
        "_manifests/000001/000000001.json",
        "note.txt",
    ],
)
def test_an_added_file_is_foreign(desk: Desk, name: str) -> None:
    """Goal: whatever somebody adds is named, wherever it lies and however it is called. Method: names like ours and unlike ours."""
    (desk.root / name).parent.mkdir(exist_ok=True)
    (desk.root / name).write_bytes(b"{}\n")
    assert found(verified(desk)) == {("foreign", name)}


def test_swapped_objects_are_altered_and_told_apart(desk: Desk) -> None:
    """Goal: two objects under each other's names are both named, with where their bytes belong. Method: swapped."""
    one, other = desk.objects()[0], desk.objects()[3]
    (desk.root / one).rename(desk.root / "x")
    (desk.root / other).rename(desk.root / one)
    (desk.root / "x").rename(desk.root / other)
    report = verified(desk)
    assert found(report) == {("altered", one), ("altered", other)}
    assert {f.detail for f in report.findings} == {f"holds what belongs to {key}" for key in (one, other)}


def test_a_count_that_is_not_true_is_found_deep(desk: Desk) -> None:
    """Goal: `deep` counts what hashes cannot tell. Method: a manifest signed with a wrong count, by whoever holds the key."""
    last = desk.manifests()[-1]
    manifest = decode_manifest((desk.root / last).read_bytes())
    tree = json.loads((desk.root / last).read_bytes())
    tree["objects"][0]["events"] += 1
    forged = json.dumps(tree).encode()
    signer = load_signer(desk.root.with_name("key").read_text(), "key")
    (desk.root / last).write_bytes(forged)
    (desk.root / f"{last}.sig").write_bytes(signer.sign(forged))
    (desk.root / "_manifests/latest.json").write_text(
        json.dumps({"number": manifest.number, "sha256": hashlib.sha256(forged).hexdigest()})
    )
    assert verified(desk).whole
    report = verify(str(desk.root), desk.root.with_name("key.pub"), deep=True)
    assert found(report) == {("altered", manifest.objects[0].key)}
    assert "its manifest says 5" in report.findings[0].detail


# --- manifests -------------------------------------------------------------------------------------------------------


def test_an_edited_manifest_is_altered_and_its_signature_bad(desk: Desk) -> None:
    """Goal: an edit is named in the manifest that was edited. Method: one digit of a count, in the middle of the chain."""
    name = desk.manifests()[2]
    text = (desk.root / name).read_bytes()
    (desk.root / name).write_bytes(re.sub(rb'"events": \d', b'"events": 9', text, count=1))
    assert found(verified(desk)) == {("altered", name), ("bad signature", name)}
    assert found(verify(str(desk.root))) == {("altered", name)}


@pytest.mark.parametrize("damage", [b"\xff", b"[" * 2000])
def test_a_manifest_that_is_no_text_any_more_is_altered(desk: Desk, damage: bytes) -> None:
    """Goal: damage that no JSON reader takes is a finding and no crash. Method: a byte that is not UTF-8 within a text, and brackets without end."""
    name = desk.manifests()[2]
    text = (desk.root / name).read_bytes()
    (desk.root / name).write_bytes(text.replace(b"streamer.", damage, 1))
    assert ("altered", name) in found(verified(desk))


def test_the_newest_manifest_edited_is_altered(desk: Desk) -> None:
    """Goal: an edit at the chain's end is found too, also without a key. Method: the last manifest's count."""
    name = desk.manifests()[-1]
    text = (desk.root / name).read_bytes()
    (desk.root / name).write_bytes(re.sub(rb'"events": \d', b'"events": 9', text, count=1))
    assert found(verified(desk)) == {("altered", name), ("bad signature", name)}
    assert found(verify(str(desk.root))) == {("altered", name)}


def test_an_edit_that_hides_an_object_is_found(desk: Desk) -> None:
    """Goal: removing an object from a manifest and from the disk is not enough. Method: both, without the key."""
    name = desk.manifests()[1]
    manifest = decode_manifest((desk.root / name).read_bytes())
    (desk.root / manifest.objects[0].key).unlink()
    tree = json.loads((desk.root / name).read_bytes())
    tree["objects"] = tree["objects"][1:]
    (desk.root / name).write_text(json.dumps(tree))
    assert ("bad signature", name) in found(verified(desk))
    assert ("altered", name) in found(verified(desk))


def test_an_old_manifest_played_back_is_a_reordered_chain(desk: Desk) -> None:
    """Goal: an old manifest under a new number, signature and all, is named. Method: manifest 2 copied over manifest 4."""
    old, new = desk.manifests()[1], desk.manifests()[3]
    lost = {o["key"] for o in desk.manifest(4)["objects"]}
    for suffix in ("", ".sig"):
        shutil.copyfile(desk.root / (old + suffix), desk.root / (new + suffix))
    report = verified(desk)
    assert ("reordered chain", new) in found(report)
    assert found(report) == {("reordered chain", new)} | {("foreign", key) for key in lost}
    assert "holds manifest 2" in show_text(report)


def test_swapped_manifests_are_a_reordered_chain(desk: Desk) -> None:
    """Goal: two manifests in each other's place are both named. Method: swapped with their signatures."""
    one, other = desk.manifests()[1], desk.manifests()[2]
    for suffix in ("", ".sig"):
        (desk.root / (one + suffix)).rename(desk.root / "x")
        (desk.root / (other + suffix)).rename(desk.root / (one + suffix))
        (desk.root / "x").rename(desk.root / (other + suffix))
    report = verified(desk)
    assert {("reordered chain", one), ("reordered chain", other)} <= found(report)
    assert {kind for kind, _ in found(report)} == {"reordered chain", "foreign"}


def test_another_archives_manifest_is_a_reordered_chain(desk: Desk, tmp_path: Path) -> None:
    """Goal: a manifest signed with the same key for another archive does not pass. Method: one of the same number, played in."""
    other = Desk(tmp_path / "b", {"roll": {"size": 1}, "signing_key_file": tmp_path / "key"})
    other.write_events(8, step=4)
    other.finish()
    name = desk.manifests()[0]
    for suffix in ("", ".sig"):
        shutil.copyfile(other.root / (name + suffix), desk.root / (name + suffix))
    assert ("reordered chain", name) in found(verified(desk))


def test_a_deleted_manifest_is_a_gap(desk: Desk) -> None:
    """Goal: a missing manifest is a gap, and its objects are vouched for by nobody. Method: one in the middle, with its signature."""
    name = desk.manifests()[2]
    objects = {("foreign", o["key"]) for o in desk.manifest(3)["objects"]}
    (desk.root / name).unlink()
    (desk.root / f"{name}.sig").unlink()
    assert found(verified(desk)) == {("gap", name)} | objects


def test_the_last_manifest_deleted_is_a_gap(desk: Desk) -> None:
    """Goal: a chain that was cut short is told from a short chain. Method: the newest manifest and its objects removed, signature too."""
    name = desk.manifests()[-1]
    for o in desk.manifest(len(desk.manifests()))["objects"]:
        (desk.root / o["key"]).unlink()
    (desk.root / name).unlink()
    assert found(verified(desk)) == {("gap", name)}
    (desk.root / f"{name}.sig").unlink()
    assert found(verified(desk)) == {("gap", name)}


def test_an_anchor_finds_a_cut_that_covered_its_tracks(desk: Desk) -> None:
    """Goal: with a note kept elsewhere even a careful truncation is found. Method: the newest manifest, its objects and the pointer
    taken back to an earlier state."""
    anchor = verified(desk).head
    last = len(desk.manifests())
    name = desk.manifests()[-1]
    for o in desk.manifest(last)["objects"]:
        (desk.root / o["key"]).unlink()
    (desk.root / name).unlink()
    (desk.root / f"{name}.sig").unlink()
    sha256 = hashlib.sha256((desk.root / desk.manifests()[-1]).read_bytes()).hexdigest()
    (desk.root / "_manifests/latest.json").write_text(json.dumps({"number": last - 1, "sha256": sha256}))
    assert verified(desk).whole
    assert found(verified(desk, anchor=anchor)) == {("gap", name)}
    assert found(verified(desk, anchor=f"1:{'0' * 64}")) == {("altered", desk.manifests()[0])}
    for text in ("latest", "1", f"one:{'0' * 64}"):
        with pytest.raises(ConfigError, match="is no anchor; write NUMBER:SHA256"):
            verified(desk, anchor=text)


def test_the_wrong_key_is_a_bad_signature(desk: Desk, tmp_path: Path) -> None:
    """Goal: another's key verifies nothing. Method: a fresh key pair's public half."""
    keygen(tmp_path / "other")
    report = verify(str(desk.root), tmp_path / "other.pub")
    assert found(report) == {("bad signature", name) for name in desk.manifests()}
    assert report.signatures == "bad"
    assert "which is not among those given" in report.findings[0].detail


def test_a_missing_signature_is_a_bad_signature(desk: Desk) -> None:
    """Goal: stripping signatures is found, with and without the key. Method: one signature removed."""
    name = desk.manifests()[1]
    (desk.root / f"{name}.sig").unlink()
    assert found(verified(desk)) == found(verify(str(desk.root))) == {("bad signature", name)}


def test_a_chain_forged_without_signatures_is_found(desk: Desk) -> None:
    """Goal: rewriting the whole chain unsigned does not pass where a key is expected. Method: every manifest rewritten, links and pointer made right."""
    head = Head(0, "", "")
    for name in desk.manifests():
        tree = json.loads((desk.root / name).read_bytes())
        tree |= {"key": None, "previous": {"number": head.number, "sha256": head.sha256} if head.number else None}
        data = json.dumps(tree).encode()
        (desk.root / name).write_bytes(data)
        (desk.root / f"{name}.sig").unlink()
        head = Head(tree["number"], hashlib.sha256(data).hexdigest(), "")
    (desk.root / "_manifests/latest.json").write_text(json.dumps({"number": head.number, "sha256": head.sha256}))
    assert verify(str(desk.root)).whole
    assert {kind for kind, _ in found(verified(desk))} == {"bad signature"}


# --- keys ------------------------------------------------------------------------------------------------------------


def test_without_a_key_it_says_what_that_is_worth(tmp_path: Path) -> None:
    """Goal: an unsigned archive works and is not called signed. Method: written without a key, shown."""
    desk = Desk(tmp_path / "a")
    desk.write_events(5)
    desk.finish()
    report = verify(str(desk.root))
    assert (report.whole, report.signatures) == (True, "none")
    assert "not signed" in show_text(report)
    assert json.loads(show_json(report))["head"] == report.head


def test_a_rotated_key_covers_what_came_before(tmp_path: Path) -> None:
    """Goal: keys are rotated by replacing a file, and a key taken up later covers the unsigned beginning. Method: unsigned, first key, second key; verified
    with each and both."""
    desk = Desk(tmp_path / "a")
    desk.write_events(4)
    desk.finish()
    for n, name in enumerate(("one", "two"), 1):
        keygen(tmp_path / name)
        desk = Desk(tmp_path / "a", {"signing_key_file": tmp_path / name})
        desk.write_events(4, 1 + 4 * n)
        desk.finish()
    both = tmp_path / "both.pub"
    both.write_bytes((tmp_path / "one.pub").read_bytes() + (tmp_path / "two.pub").read_bytes())
    assert verify(str(desk.root), both).whole
    assert {kind for kind, _ in found(verify(str(desk.root), tmp_path / "two.pub"))} == {"bad signature"}


def test_keygen_keeps_its_key_to_itself(tmp_path: Path) -> None:
    """Goal: the private key is ours alone and never overwritten. Method: modes, a second call, openssl reading both halves."""
    fingerprint = keygen(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="never overwritten"):
        keygen(tmp_path / "key")
    derived = subprocess.run(
        ["openssl", "pkey", "-in", tmp_path / "key", "-pubout"], capture_output=True, check=True
    ).stdout
    assert derived == (tmp_path / "key.pub").read_bytes()
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", tmp_path / "key.pub", "-outform", "DER"], capture_output=True, check=True
    ).stdout
    assert hashlib.sha256(der).hexdigest() == fingerprint


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        (b"junk", "holds no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----", "damaged"),
    ],
)
def test_a_key_file_that_is_none_is_said(desk: Desk, tmp_path: Path, content: bytes | None, sentence: str) -> None:
    """Goal: verification does not go on without the key it was given. Method: absent, no key, a broken key."""
    if content is not None:
        (tmp_path / "bad.pub").write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        verify(str(desk.root), tmp_path / "bad.pub")


def test_no_archive_is_no_whole_archive(tmp_path: Path) -> None:
    """Goal: a wrong path is not called whole. Method: a folder with nothing, and none."""
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match="no archive is there"):
            verify(str(place))


def test_an_archive_that_is_being_closed_is_not_called_wrong(pristine: Path, tmp_path: Path) -> None:
    """Goal: a running daemon raises no alarm, and nothing is passed over in silence. Method: killed with objects placed and no manifest yet, by a manifest
    folder that is in the way."""
    desk = Desk(tmp_path / "a", {"roll": {"size": 1}})
    desk.write_events(4)
    shutil.move(desk.root / "_manifests", tmp_path / "aside")
    (desk.root / "_manifests").write_bytes(b"")
    with pytest.raises(ConfigError):
        desk.write_events(4, 5)
    (desk.root / "_manifests").unlink()
    shutil.move(tmp_path / "aside", desk.root / "_manifests")
    report = verify(str(desk.root))
    assert found(report) == set()
    assert report.unfinished == desk.objects() != []


# --- the form of a manifest ------------------------------------------------------------------------------------------


def test_a_manifests_text_is_read_back_as_it_was(desk: Desk) -> None:
    """Goal: one text for one manifest. Method: decoded and encoded again."""
    for name in desk.manifests():
        data = (desk.root / name).read_bytes()
        manifest = decode_manifest(data)
        assert isinstance(manifest, Manifest)
        assert encode_manifest(manifest) == data


# --- without our program ---------------------------------------------------------------------------------------------


def documented_steps() -> str:
    text = (ROOT / "docs" / "archive.md").read_text()
    section = text.split("### Without our program")[1]
    return re.findall(r"```sh[^\n]*\n(.*?)```", section, re.DOTALL)[0]


def follow_steps(desk: Desk) -> list[str]:
    environment = {**os.environ, "ARCHIVE": str(desk.root), "KEY": str(desk.root.with_name("key.pub"))}
    done = subprocess.run(
        ["sh", "-c", documented_steps()], env=environment, capture_output=True, text=True, check=False
    )
    return [line for line in (done.stdout + done.stderr).splitlines() if line]


def test_a_third_party_can_follow_the_documented_steps(desk: Desk) -> None:
    """Goal: openssl and sha256sum suffice. Method: exactly the commands of docs/archive.md; silent but for the chain's end, which is ours."""
    lines = follow_steps(desk)
    report = verified(desk)
    assert lines == [report.head, f"until {report.until}"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


TAMPERINGS: dict[str, tuple[Callable[[Desk], None], str]] = {
    "an object altered": (lambda d: flip(d.root / d.objects()[0]), "FAILED"),
    "an object missing": (lambda d: (d.root / d.objects()[0]).unlink(), "No such file"),
    "a file added": (lambda d: (d.root / "source=acme/x").touch(), "foreign: source=acme/x"),
    "a manifest altered": (
        lambda d: flip(d.root / d.manifests()[1]),
        "bad signature: _manifests/000000/000000002.json",
    ),
    "a manifest missing": (lambda d: (d.root / d.manifests()[1]).unlink(), "gap or reordered chain"),
    "an old manifest": (
        lambda d: shutil.copyfile(d.root / d.manifests()[0], d.root / d.manifests()[2]) and None,
        "gap or reordered chain: _manifests/000000/000000003.json",
    ),
    "a signature altered": (lambda d: flip(d.root / (d.manifests()[1] + ".sig")), "bad signature"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_the_documented_steps_find_tampering(desk: Desk, name: str) -> None:
    """Goal: the steps without our program find what ours finds. Method: each kind of tampering, then the commands of the page."""
    tamper, sign = TAMPERINGS[name]
    tamper(desk)
    assert any(sign in line for line in follow_steps(desk))
    assert not verified(desk).whole


# --- size ------------------------------------------------------------------------------------------------------------

MANY = """
import resource, sys
from streamer.model import Message, Record, Seq
from streamer.sinks.archive.verify import verify
from pathlib import Path
from tests.archive import Desk

def line(n):
    return b'{"id":"e-%d","source":"acme","time":"2026-01-%02dT00:00:00Z","text":"%s"}' % (n, n * 28 // 1_000_000 + 1, b"x" * 200)

if sys.argv[2] == "write":
    desk = Desk(Path(sys.argv[1]), {"roll": {"size": "8MiB"}, "compression": "none"})
    for first in range(0, int(sys.argv[3]), 10_000):
        records = [Record(Seq(n + 1), line(n)) for n in range(first, first + 10_000)]
        desk.write([Message(record, record.line) for record in records])
    desk.finish()
else:
    report = verify(sys.argv[1])
    sys.stdout.write(f"{report.whole} {report.events} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}")
"""


def test_a_million_events_verify_in_constant_memory(tmp_path: Path) -> None:
    """Goal: memory does not grow with the archive. Method: peak memory of verifying a million events against that of ten thousand."""
    peaks = []
    for count in (10_000, 1_000_000):
        place = str(tmp_path / str(count))
        subprocess.run([sys.executable, "-c", MANY, place, "write", str(count)], check=True, cwd=ROOT)
        shown = subprocess.run(
            [sys.executable, "-c", MANY, place, "verify"], check=True, cwd=ROOT, capture_output=True, text=True
        ).stdout.split()
        assert shown[:2] == ["True", str(count)]
        peaks.append(int(shown[2]))
    assert peaks[1] - peaks[0] < 20_000, f"peak memory in kB: {peaks}"


def test_a_report_stays_short_however_much_is_wrong() -> None:
    """Goal: an archive of terabytes with a million findings is told on a terminal; method: more findings than are kept, sizes of each unit."""
    report = Report(place="a")
    for number in range(FINDINGS_KEPT + 7):
        report.add("altered", f"o{number}", "another hash")
    assert len(report.findings) == FINDINGS_KEPT
    text = show_text(report)
    assert "… and 7 more" in text
    assert f"NOT WHOLE: {FINDINGS_KEPT + 7} altered" in text
    for size, said in ((999, "999 B"), (1500, "1.5 kB"), (2e12, "2.0 TB"), (2e15, "2000.0 TB")):
        report = Report(place="a", objects=1, stored_bytes=int(size))
        assert f"1, {said}" in show_text(report)
