"""Ed25519 keys in files, in the forms that openssl reads: PKCS #8 and SPKI, PEM; signatures are the bare 64 bytes."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from streamer.errors import ConfigError

_PUBLIC_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


def _fingerprint(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


@dataclass(frozen=True)
class Signer:
    """Signs; deterministic, so that a manifest written again has the same signature."""

    private: Ed25519PrivateKey
    fingerprint: str
    """SHA-256 of the public key's DER, in hex."""

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data)


@dataclass(frozen=True)
class Verifier:
    """The public keys that somebody trusts, by fingerprint: more than one after a rotation."""

    keys: dict[str, Ed25519PublicKey]

    def holds(self, fingerprint: str, signature: bytes, data: bytes) -> bool:
        """Whether this is that key's signature of `data`. KeyError if the key is not among ours."""
        try:
            self.keys[fingerprint].verify(signature, data)
        except InvalidSignature:
            return False
        return True


def load_signer(pem: str, name: str) -> Signer:
    """`name` is what a message calls the key."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        raise ConfigError(f"{name} is not an unencrypted private key in PEM; make one with streamer keygen") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{name} is not an Ed25519 key; make one with streamer keygen")
    return Signer(key, _fingerprint(key.public_key()))


def load_verifier(path: Path) -> Verifier:
    """One or more public keys in PEM, one after another in one file. ConfigError when there is none."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; give the public key's file") from None
    keys: dict[str, Ed25519PublicKey] = {}
    for block in _PUBLIC_PEM.findall(text):
        try:
            key = load_pem_public_key(block)
        except ValueError:
            raise ConfigError(f"{path}: holds a damaged public key; export it again") from None
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigError(f"{path}: holds a key that is not Ed25519; give the key that signs the archive")
        keys[_fingerprint(key)] = key
    if not keys:
        raise ConfigError(f"{path}: holds no public key in PEM; give the .pub file that streamer keygen wrote")
    return Verifier(keys)


def keygen(path: Path) -> str:
    """Write a new private key to `path` (mode 0600) and its public key to `path`.pub; returns the fingerprint.

    ConfigError when one of them is there already: a key is never overwritten.
    """
    private = Ed25519PrivateKey.generate()
    public_path = path.with_name(path.name + ".pub")
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for target in (path, public_path):
        if target.exists():
            raise ConfigError(f"{target} is there already; a key is never overwritten: choose another name")
    for target, mode, content in ((path, 0o600, secret), (public_path, 0o644, public)):
        try:
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ConfigError(f"{target}: cannot be written: {error.strerror}; choose a folder that you own") from None
    return _fingerprint(private.public_key())
