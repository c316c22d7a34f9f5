"""The two halves of an approver's key as files: the credential that signs, and the line that others get."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from donjon.codec.digest import short_id
from donjon.codec.sign import PUBLIC_BYTES, SigningKey
from donjon.core.errors import KeyNotAvailable, UnsupportedVersion, UsageError
from donjon.format.approvers import MAX_APPROVERS, MIN_APPROVALS, ApproverList
from donjon.format.vault import VaultSecret
from donjon.keys.private import create_private
from donjon.repository.records import check_label, hide

_FORM = "donjon approver credential"
_VERSION = 1
_PUBLIC_FORM = "donjon-approver-1"
_MAX_FILE_BYTES = 64 << 10


class _File(msgspec.Struct):
    format: str
    version: int
    name: str
    signing_seed: str

    def __repr__(self) -> str:
        return f"_File({self.name!r})"


@dataclass(frozen=True, slots=True)
class ApproverKey:
    """The public half with the name of its owner: what goes to whoever makes the vault."""

    name: str
    public: bytes

    @property
    def approver_id(self) -> bytes:
        """16 bytes."""
        return short_id(self.public)

    def text(self) -> str:
        """One line, which can be mailed, and read aloud to compare it."""
        return f"{_PUBLIC_FORM} {base64.b64encode(self.public).decode()} {self.name}"

    @classmethod
    def read(cls, path: Path) -> ApproverKey:
        """Raises ``UsageError`` if there is no such file or it holds something else."""
        try:
            with path.open("rb") as file:
                line = file.read(_MAX_FILE_BYTES).decode().strip()
            form, key, name = line.split(" ", 2)
            public = base64.b64decode(key, validate=True)
            if form != _PUBLIC_FORM or len(public) != PUBLIC_BYTES:
                raise ValueError(form)
        except OSError as error:
            msg = f"{path}: cannot be read: {error.strerror}"
            raise UsageError(msg, hint="Name the .pub file that `donjon approver new` made.") from error
        except ValueError as error:
            msg = f"{path}: is no public key of an approver"
            raise UsageError(msg, hint="Name the .pub file that `donjon approver new` made.") from error
        check_label(name)
        return cls(name, public)


class ApproverCredential:
    """The signing key of an approver. It belongs to a person, not to a vault, and opens no backup."""

    def __init__(self, name: str, seed: bytes) -> None:
        self.name = name
        self.signing_key = SigningKey(seed)
        self.approver_id = short_id(self.signing_key.public)

    def __repr__(self) -> str:
        return f"ApproverCredential({self.approver_id.hex()}, {self.name!r})"

    @property
    def public(self) -> ApproverKey:
        """The half that others get."""
        return ApproverKey(self.name, self.signing_key.public)

    def write(self, path: Path) -> None:
        """Create the file, readable by its owner only.

        Raises ``Refused`` if something is there already, ``PermissionMissing`` or ``UsageError`` if
        there can be no such file.
        """
        seed = base64.b64encode(self.signing_key.seed).decode()
        content = msgspec.json.encode(_File(_FORM, _VERSION, self.name, seed))
        create_private(path, msgspec.json.format(content) + b"\n")

    @classmethod
    def read(cls, path: Path) -> ApproverCredential:
        """Raises ``KeyNotAvailable`` if there is no such file or it is damaged."""
        try:
            with path.open("rb") as file:
                content = msgspec.json.decode(file.read(_MAX_FILE_BYTES), type=_File)
            if content.format != _FORM:
                raise ValueError(content.format)
            if content.version != _VERSION:
                msg = f"{path}: is an approver credential of version {content.version}"
                raise UnsupportedVersion(msg, hint="Install a newer Donjon.")
            return cls(content.name, base64.b64decode(content.signing_seed, validate=True))
        except OSError as error:
            msg = f"{path}: the approver credential cannot be read: {error.strerror}"
            raise KeyNotAvailable(msg, hint="Make one with `donjon approver new NAME --out FILE`.") from error
        except (msgspec.MsgspecError, ValueError) as error:
            msg = f"{path}: is no approver credential, or is damaged"
            raise KeyNotAvailable(msg, hint="Name the file that `donjon approver new` made.") from error


def check_approvers(keys: Sequence[ApproverKey], needed: int) -> None:
    """Raises ``UsageError`` unless so many approvals of these can be asked for."""
    hint = (
        f"Name 2 to {MAX_APPROVERS} with --approver FILE.pub each, and with --approvals how many are needed."
    )
    if not MIN_APPROVALS <= needed <= len(keys) <= MAX_APPROVERS:
        msg = (
            f"{needed} approvals of {len(keys)} approvers: no single one may be enough, and not more than all"
        )
        raise UsageError(msg, hint=hint)
    if len({key.public for key in keys}) < len(keys) or len({key.name for key in keys}) < len(keys):
        msg = "an approver is named twice"
        raise UsageError(msg, hint="Each of them needs a key and a name of his own.")


def choose_approvers(needed: int, keys: Sequence[ApproverKey], secret: VaultSecret) -> ApproverList:
    """The list for the keyring, with hidden names, after ``check_approvers``."""
    rows = sorted((key.public, hide(secret, key.name)) for key in keys)
    return ApproverList(needed, tuple(key for key, _ in rows), tuple(label for _, label in rows))
