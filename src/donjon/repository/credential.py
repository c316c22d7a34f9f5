"""The writer credential: what a host needs to back up, and nothing that opens a backup."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import msgspec

from donjon.codec.digest import short_id
from donjon.codec.sign import SigningKey
from donjon.core.errors import KeyNotAvailable, Refused, UnsupportedVersion
from donjon.format.vault import VaultSecret

_FORMAT = "donjon writer credential"
_VERSION = 1


class _File(msgspec.Struct):
    format: str
    version: int
    vault_id: str
    vault_url: str
    name: str
    root_public: str
    signing_seed: str
    vault_secret: str


class WriterCredential:
    """A signing key of a certified writer, the vault secret, and the root key that it trusts."""

    def __init__(
        self, *, vault_id: bytes, url: str, name: str, root_public: bytes, seed: bytes, secret: bytes
    ) -> None:
        self.vault_id = vault_id
        self.url = url
        self.name = name
        self.root_public = root_public
        self.signing_key = SigningKey(seed)
        self.writer_id = short_id(self.signing_key.public)
        self.secret = VaultSecret(secret)

    def __repr__(self) -> str:
        return f"WriterCredential({self.writer_id.hex()}, {self.name!r})"

    def write(self, path: Path) -> None:
        """Create the file, readable by its owner only.

        Raises ``Refused`` if something is there already.
        """
        content = msgspec.json.format(
            msgspec.json.encode(
                _File(
                    _FORMAT,
                    _VERSION,
                    self.vault_id.hex(),
                    self.url,
                    self.name,
                    self.root_public.hex(),
                    base64.b64encode(self.signing_key.seed).decode(),
                    base64.b64encode(self.secret.secret).decode(),
                )
            )
        )
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            msg = f"{path}: exists already"
            raise Refused(msg, hint="Name a file that does not exist yet.") from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(content + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def read(cls, path: Path) -> WriterCredential:
        """Raises ``KeyNotAvailable`` if there is no such file or it is damaged."""
        try:
            content = msgspec.json.decode(path.read_bytes(), type=_File)
            if content.format != _FORMAT:
                raise ValueError(content.format)
            if content.version != _VERSION:
                msg = f"{path}: is a writer credential of version {content.version}"
                raise UnsupportedVersion(msg, hint="Install a newer Donjon.")
            return cls(
                vault_id=bytes.fromhex(content.vault_id),
                url=content.vault_url,
                name=content.name,
                root_public=bytes.fromhex(content.root_public),
                seed=base64.b64decode(content.signing_seed, validate=True),
                secret=base64.b64decode(content.vault_secret, validate=True),
            )
        except FileNotFoundError as error:
            msg = f"{path}: no writer credential here"
            hint = "Enrol this host: `donjon writer add NAME --out FILE`, then `donjon enrol FILE` here."
            raise KeyNotAvailable(msg, hint=hint) from error
        except (msgspec.MsgspecError, ValueError) as error:
            msg = f"{path}: is no writer credential, or is damaged"
            raise KeyNotAvailable(msg, hint="Make a new one with `donjon writer add`.") from error
