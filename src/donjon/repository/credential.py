"""The writer credential: what a host needs to back up, and nothing that opens a backup."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec

from donjon.codec.digest import short_id
from donjon.codec.seal import KEY_BYTES
from donjon.codec.sign import PUBLIC_BYTES, SigningKey
from donjon.core.errors import KeyNotAvailable, UnsupportedVersion
from donjon.format.vault import VAULT_ID_BYTES, VaultSecret
from donjon.keys.private import create_private

_FORMAT = "donjon writer credential"
_VERSION = 1
_MAX_FILE_BYTES = 64 << 10


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

        Raises ``Refused`` if something is there already, ``PermissionMissing`` or ``UsageError`` if
        there can be no such file.
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
        create_private(path, content + b"\n")

    @classmethod
    def read(cls, path: Path) -> WriterCredential:
        """Raises ``KeyNotAvailable`` if there is no such file or it is damaged."""
        try:
            with path.open("rb") as file:
                content = msgspec.json.decode(file.read(_MAX_FILE_BYTES), type=_File)
            if content.format != _FORMAT:
                raise ValueError(content.format)
            if content.version != _VERSION:
                msg = f"{path}: is a writer credential of version {content.version}"
                raise UnsupportedVersion(msg, hint="Install a newer Donjon.")
            return cls(
                vault_id=_of_length(bytes.fromhex(content.vault_id), VAULT_ID_BYTES),
                url=content.vault_url,
                name=content.name,
                root_public=_of_length(bytes.fromhex(content.root_public), PUBLIC_BYTES),
                seed=base64.b64decode(content.signing_seed, validate=True),
                secret=_of_length(base64.b64decode(content.vault_secret, validate=True), KEY_BYTES),
            )
        except FileNotFoundError as error:
            msg = f"{path}: no writer credential here"
            hint = "Enrol this host: `donjon writer add NAME --out FILE`, then `donjon enrol FILE` here."
            raise KeyNotAvailable(msg, hint=hint) from error
        except OSError as error:
            msg = f"{path}: the writer credential cannot be read: {error.strerror}"
            raise KeyNotAvailable(msg, hint="Run donjon as the user who enrolled this host.") from error
        except (msgspec.MsgspecError, ValueError) as error:
            msg = f"{path}: is no writer credential, or is damaged"
            raise KeyNotAvailable(msg, hint="Make a new one with `donjon writer add`.") from error


def _of_length(data: bytes, size_bytes: int) -> bytes:
    if len(data) != size_bytes:
        raise ValueError(len(data))
    return data
