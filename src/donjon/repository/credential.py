"""Credentials of writers and custodians: what signs for them, and nothing that opens a backup."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from donjon.codec.digest import short_id
from donjon.codec.seal import KEY_BYTES
from donjon.codec.sign import PUBLIC_BYTES, SigningKey
from donjon.core.errors import KeyNotAvailable, UnsupportedVersion
from donjon.format.vault import VAULT_ID_BYTES, VaultSecret
from donjon.keys.private import create_private

_WRITER = "donjon writer credential"
_CUSTODIAN = "donjon custodian credential"
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
    vault_secret: str = ""


T = TypeVar("T")


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
        _write(path, _WRITER, self, base64.b64encode(self.secret.secret).decode())

    @classmethod
    def read(cls, path: Path) -> WriterCredential:
        """Raises ``KeyNotAvailable`` if there is no such file or it is damaged."""
        return _read(path, _WRITER, "writer", cls._from_file)

    @classmethod
    def _from_file(cls, content: _File) -> WriterCredential:
        return cls(
            vault_id=_of_length(bytes.fromhex(content.vault_id), VAULT_ID_BYTES),
            url=content.vault_url,
            name=content.name,
            root_public=_of_length(bytes.fromhex(content.root_public), PUBLIC_BYTES),
            seed=base64.b64decode(content.signing_seed, validate=True),
            secret=_of_length(base64.b64decode(content.vault_secret, validate=True), KEY_BYTES),
        )


class CustodianCredential:
    """A signing key of a certified custodian and the root key that it trusts; it knows no vault secret."""

    def __init__(self, *, vault_id: bytes, url: str, name: str, root_public: bytes, seed: bytes) -> None:
        self.vault_id = vault_id
        self.url = url
        self.name = name
        self.root_public = root_public
        self.signing_key = SigningKey(seed)
        self.custodian_id = short_id(self.signing_key.public)

    def __repr__(self) -> str:
        return f"CustodianCredential({self.custodian_id.hex()}, {self.name!r})"

    def write(self, path: Path) -> None:
        """Create the file; see ``WriterCredential.write``."""
        _write(path, _CUSTODIAN, self)

    @classmethod
    def read(cls, path: Path) -> CustodianCredential:
        """Raises ``KeyNotAvailable`` if there is no such file or it is damaged."""
        return _read(path, _CUSTODIAN, "custodian", cls._from_file)

    @classmethod
    def _from_file(cls, content: _File) -> CustodianCredential:
        return cls(
            vault_id=_of_length(bytes.fromhex(content.vault_id), VAULT_ID_BYTES),
            url=content.vault_url,
            name=content.name,
            root_public=_of_length(bytes.fromhex(content.root_public), PUBLIC_BYTES),
            seed=base64.b64decode(content.signing_seed, validate=True),
        )


def _write(
    path: Path, form: str, credential: WriterCredential | CustodianCredential, secret: str = ""
) -> None:
    content = _File(
        form,
        _VERSION,
        credential.vault_id.hex(),
        credential.url,
        credential.name,
        credential.root_public.hex(),
        base64.b64encode(credential.signing_key.seed).decode(),
        secret,
    )
    create_private(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def _read(path: Path, form: str, who: str, build: Callable[[_File], T]) -> T:
    try:
        with path.open("rb") as file:
            content = msgspec.json.decode(file.read(_MAX_FILE_BYTES), type=_File)
        if content.format != form:
            raise ValueError(content.format)
        if content.version != _VERSION:
            msg = f"{path}: is a {who} credential of version {content.version}"
            raise UnsupportedVersion(msg, hint="Install a newer Donjon.")
        return build(content)
    except FileNotFoundError as error:
        msg = f"{path}: no {who} credential here"
        hint = "Enrol this host: `donjon writer add NAME --out FILE`, then `donjon enrol FILE` here."
        if form == _CUSTODIAN:
            hint = "Make one with `donjon custodian add NAME --out FILE`."
        raise KeyNotAvailable(msg, hint=hint) from error
    except OSError as error:
        msg = f"{path}: the {who} credential cannot be read: {error.strerror}"
        raise KeyNotAvailable(msg, hint="Run donjon as the user whom it was made for.") from error
    except (msgspec.MsgspecError, ValueError) as error:
        msg = f"{path}: is no {who} credential, or is damaged"
        raise KeyNotAvailable(msg, hint=f"Make a new one with `donjon {who} add`.") from error


def _of_length(data: bytes, size_bytes: int) -> bytes:
    if len(data) != size_bytes:
        raise ValueError(len(data))
    return data
