"""Credentials of writers, custodians and auditors: what signs for them, and nothing that opens a backup."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self, TypeVar

import msgspec

from donjon.codec.digest import ID_BYTES, short_id
from donjon.codec.seal import KEY_BYTES
from donjon.codec.sign import PUBLIC_BYTES, SigningKey
from donjon.core.errors import KeyNotAvailable, UnsupportedVersion
from donjon.format.vault import VAULT_ID_BYTES, VaultSecret
from donjon.keys.private import create_private

_WRITER = "donjon writer credential"
_VERSION = 1
#: Of a writer whose key has succeeded another. Older Donjons, which know nothing of that, refuse it.
_SUCCESSOR_VERSION = 2
_MAX_FILE_BYTES = 64 << 10


class _Form(msgspec.Struct):
    format: str


class _File(msgspec.Struct):
    format: str
    version: int
    vault_id: str
    vault_url: str
    name: str
    root_public: str
    signing_seed: str
    vault_secret: str = ""
    writer_id: str = ""
    key_number: int = 0

    def __repr__(self) -> str:
        return f"_File({self.name!r})"


T = TypeVar("T")


class WriterCredential:
    """A signing key of a certified writer, the vault secret, and the root key that it trusts.

    ``key_number`` counts the keys of the writer, from 0 for the one that the keyring certifies and that gives
    ``writer_id``. Raises ``ValueError`` if one is given without the other.
    """

    def __init__(
        self,
        *,
        vault_id: bytes,
        url: str,
        name: str,
        root_public: bytes,
        seed: bytes,
        secret: bytes,
        writer_id: bytes | None = None,
        key_number: int = 0,
    ) -> None:
        self.vault_id = vault_id
        self.url = url
        self.name = name
        self.root_public = root_public
        self.signing_key = SigningKey(seed)
        if (writer_id is None) != (key_number == 0) or key_number < 0:
            raise ValueError(key_number)
        self.writer_id = writer_id if writer_id is not None else short_id(self.signing_key.public)
        self.key_number = key_number
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
            writer_id=_of_length(bytes.fromhex(content.writer_id), ID_BYTES) if content.writer_id else None,
            key_number=content.key_number,
        )

    @property
    def signer_id(self) -> bytes:
        """As the other credentials have it."""
        return self.writer_id

    def successor(self) -> WriterCredential:
        """The same writer with a fresh key, which nobody has named yet."""
        return WriterCredential(
            vault_id=self.vault_id,
            url=self.url,
            name=self.name,
            root_public=self.root_public,
            seed=SigningKey.generate().seed,
            secret=self.secret.secret,
            writer_id=self.writer_id,
            key_number=self.key_number + 1,
        )


class SignerCredential:
    """A signing key that the keyring certifies, and the root key that it trusts; it knows no vault secret."""

    #: How the keyring and people call its owner.
    word: ClassVar[str]

    def __init__(self, *, vault_id: bytes, url: str, name: str, root_public: bytes, seed: bytes) -> None:
        self.vault_id = vault_id
        self.url = url
        self.name = name
        self.root_public = root_public
        self.signing_key = SigningKey(seed)
        self.signer_id = short_id(self.signing_key.public)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.signer_id.hex()}, {self.name!r})"

    def write(self, path: Path) -> None:
        """Create the file; see ``WriterCredential.write``."""
        _write(path, _form(self.word), self)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises ``KeyNotAvailable`` if there is no such file or it is damaged."""
        return _read(path, _form(cls.word), cls.word, cls._from_file)

    @classmethod
    def _from_file(cls, content: _File) -> Self:
        return cls(
            vault_id=_of_length(bytes.fromhex(content.vault_id), VAULT_ID_BYTES),
            url=content.vault_url,
            name=content.name,
            root_public=_of_length(bytes.fromhex(content.root_public), PUBLIC_BYTES),
            seed=base64.b64decode(content.signing_seed, validate=True),
        )


class CustodianCredential(SignerCredential):
    """What signs checkpoints and epochs."""

    word = "custodian"

    @property
    def custodian_id(self) -> bytes:
        """16 bytes, as in the keyring."""
        return self.signer_id


class AuditorCredential(SignerCredential):
    """What signs evidence, and nothing else."""

    word = "auditor"


def read_signer(path: Path) -> WriterCredential | SignerCredential:
    """The credential in a file, whoever's it is. Raises ``KeyNotAvailable`` if it is of nobody who signs."""
    try:
        with path.open("rb") as file:
            form = msgspec.json.decode(file.read(_MAX_FILE_BYTES), type=_Form).format
    except (OSError, msgspec.MsgspecError):
        form = ""  # who reads it below tells what is wrong
    if form == _form(CustodianCredential.word):
        return CustodianCredential.read(path)
    return WriterCredential.read(path) if form == _WRITER else AuditorCredential.read(path)


def _form(word: str) -> str:
    return f"donjon {word} credential"


def _write(path: Path, form: str, credential: WriterCredential | SignerCredential, secret: str = "") -> None:
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
    if isinstance(credential, WriterCredential) and credential.key_number:
        content.version = _SUCCESSOR_VERSION
        content.writer_id, content.key_number = credential.writer_id.hex(), credential.key_number
    create_private(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def _read(path: Path, form: str, who: str, build: Callable[[_File], T]) -> T:
    try:
        with path.open("rb") as file:
            content = msgspec.json.decode(file.read(_MAX_FILE_BYTES), type=_File)
        if content.format != form:
            raise ValueError(content.format)
        newest = _SUCCESSOR_VERSION if form == _WRITER else _VERSION
        if not _VERSION <= content.version <= newest:
            msg = f"{path}: is a {who} credential of version {content.version}"
            raise UnsupportedVersion(msg, hint="Install a newer Donjon.")
        return build(content)
    except FileNotFoundError as error:
        msg = f"{path}: no {who} credential here"
        hint = "Enrol this host: `donjon writer add NAME --out FILE`, then `donjon enrol FILE` here."
        if form != _WRITER:
            hint = f"Make one with `donjon {who} add NAME --out FILE`."
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
