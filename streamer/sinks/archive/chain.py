"""The chain of manifests as its writer sees it: which archive, where the chain ends, the next manifest."""

import secrets
from collections.abc import Callable

import msgspec

from streamer.config import Secret
from streamer.errors import NOT_JSON, ConfigError
from streamer.sinks.archive.layout import (
    IDENTITY_KEY,
    LATEST_KEY,
    MANIFESTS,
    manifest_key,
    parse_manifest_key,
    signature_key,
)
from streamer.sinks.archive.manifest import (
    Head,
    Manifest,
    decode_manifest,
    encode_manifest,
    head_after,
    link_to,
)
from streamer.sinks.archive.signing import Signer, Verifier, load_signer
from streamer.sinks.archive.store import Store


class Identity(msgspec.Struct, frozen=True):
    """`_manifests/archive.json`: which archive this is."""

    schema: str
    archive: str
    created: str


class Chain:
    """Writes manifests, each once: what a crash interrupted is found again and taken as it is."""

    def __init__(self, store: Store, key: Secret | None) -> None:
        self._store, self._key = store, key
        self.archive = ""
        self.head = Head(0, "", "")
        self.segment = ""
        """The newest segment that a manifest speaks of."""

    def attach(self, archive: str | None, head: Head | None, now: str) -> bool:
        """Learn which archive lies there, and where its chain ends. `archive` and `head` are what the bookmark believes; True if it is that archive."""
        fresh = Identity("streamer.archive/1", archive or secrets.token_hex(16), now)
        text = self._store.create(IDENTITY_KEY, msgspec.json.encode(fresh) + b"\n")
        try:
            identity = msgspec.json.decode(text, type=Identity)
        except NOT_JSON:
            raise ConfigError(f"archive: {IDENTITY_KEY} is damaged; restore it from a copy") from None
        self.archive = identity.archive
        is_same = archive == identity.archive
        # The bookmark goes before what lies there: manifests that somebody took away leave a gap, not a chain that is whole again.
        self.head = head if is_same and head is not None else self._newest(identity)
        self.follow()
        return is_same

    def _newest(self, identity: Identity) -> Head:
        names = (parse_manifest_key(key) for key, _ in self._store.walk(MANIFESTS))
        number = max((name[0] for name in names if name and not name[1]), default=0)
        if not number:
            return Head(0, "", identity.created)
        data = self._store.get(manifest_key(number)) or b""
        manifest = _decoded(number, data)
        self.segment = manifest.segment
        return head_after(manifest, data)

    def follow(self) -> None:
        """Go on to manifests that we wrote and of which the bookmark does not know."""
        while (data := self._store.get(manifest_key(self.head.number + 1))) is not None:
            manifest = _decoded(self.head.number + 1, data)
            self._expect_ours(manifest, data)
            self._advance(manifest, data)

    def speaks_of(self, segment: str, after: Head) -> bool:
        """Whether the manifest that follows `after` closed that segment."""
        data = self._store.get(manifest_key(after.number + 1))
        return data is not None and _decoded(after.number + 1, data).segment == segment

    def append(self, make: Callable[[str, int, str | None, Head], Manifest]) -> None:
        """Write the next manifest: `make(archive, number, key, head)`. What is there already under its number must be ours, of the same segment."""
        signer = self._signer()
        manifest = make(self.archive, self.head.number + 1, signer.fingerprint if signer else None, self.head)
        data = encode_manifest(manifest)
        key = manifest_key(manifest.number)
        there = self._store.get(key)
        if there is None:
            if signer is not None:  # first, so that a manifest is never without its signature
                self._store.put(signature_key(manifest.number), signer.sign(data))
            there = self._store.create(key, data)
        if there != data:  # ours from before a crash and a change of the key, or somebody else's
            earlier = _decoded(manifest.number, there)
            self._expect_ours(earlier, there)
            if (earlier.segment, earlier.kind) != (manifest.segment, manifest.kind):
                raise _not_ours(manifest.number)
            manifest = earlier
        self._advance(manifest, there)

    def publish(self) -> None:
        """Say where the chain ends: a hint that tells a cut chain from a short one."""
        latest = {"number": self.head.number, "sha256": self.head.sha256}
        self._store.put(LATEST_KEY, msgspec.json.encode(latest) + b"\n")

    def _advance(self, manifest: Manifest, data: bytes) -> None:
        self.head = head_after(manifest, data)
        self.segment = max(self.segment, manifest.segment)

    def _expect_ours(self, manifest: Manifest, data: bytes) -> None:
        """It follows our head, and if it says that our key signed it, our key did."""
        if manifest.archive != self.archive or manifest.previous != link_to(self.head):
            raise _not_ours(manifest.number)
        signer = self._signer()
        if signer is not None and manifest.key == signer.fingerprint:
            signature = self._store.get(signature_key(manifest.number)) or b""
            ours = Verifier({signer.fingerprint: signer.private.public_key()})
            if not ours.holds(signer.fingerprint, signature, data):
                raise _not_ours(manifest.number)

    def _signer(self) -> Signer | None:
        return load_signer(self._key.reveal(), "archive: signing_key") if self._key else None


def _not_ours(number: int) -> ConfigError:
    return ConfigError(
        f"archive: {manifest_key(number)} is there and does not follow our own manifest {number - 1}: a second writer, or a forgery; "
        "look into it, then move it away"
    )


def _decoded(number: int, data: bytes) -> Manifest:
    try:
        return decode_manifest(data)
    except NOT_JSON:
        raise ConfigError(f"archive: {manifest_key(number)} is damaged; restore it from a copy") from None
