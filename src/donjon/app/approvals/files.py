"""Requests that go from approver to approver as files: the request as it is in a vault, and signatures of it.

Nothing in such a file is believed but what a signature covers. The lines ``shows`` are for people who open
it; Donjon writes them and never reads them.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from donjon.codec.digest import ID_BYTES
from donjon.codec.sign import SIGNATURE_BYTES
from donjon.core.errors import UnsupportedVersion, UsageError
from donjon.format.approvers import MAX_APPROVERS
from donjon.format.vault import VAULT_ID_BYTES
from donjon.keys.private import create_private, replace_private

_VERSION = 1
#: A request has at most 1 MiB, and Base64 and the lines for people come on top.
_MAX_FILE_BYTES = 4 << 20


_FORM = "donjon approval request"


class _File(msgspec.Struct):
    format: str
    version: int
    vault_id: str
    shows: list[str]
    request: str
    signatures: dict[str, str]


@dataclass(frozen=True, slots=True)
class RequestFile:
    """A whole request object, of the vault with this id, and the signatures of approvers by their ids.

    None of it was verified.
    """

    vault_id: bytes
    request: bytes
    signatures: dict[bytes, bytes]
    shows: Sequence[str] = ()

    def create(self, path: Path) -> None:
        """Raises ``Refused`` if something is there already."""
        create_private(path, self._encode())

    def replace(self, path: Path) -> None:
        """Replace the file that this one was read from, whole or not at all."""
        replace_private(path, self._encode())

    def _encode(self) -> bytes:
        signatures = {
            who.hex(): base64.b64encode(signature).decode() for who, signature in self.signatures.items()
        }
        content = _File(
            _FORM,
            _VERSION,
            self.vault_id.hex(),
            list(self.shows),
            base64.b64encode(self.request).decode(),
            signatures,
        )
        return msgspec.json.format(msgspec.json.encode(content)) + b"\n"

    @classmethod
    def read(cls, path: Path) -> RequestFile:
        """Raises ``UsageError`` if there is no such file, or it is no request."""
        try:
            with path.open("rb") as file:
                content = msgspec.json.decode(file.read(_MAX_FILE_BYTES), type=_File)
            if content.format != _FORM:
                raise ValueError(content.format)
            if content.version != _VERSION:
                msg = f"{path}: is a request of version {content.version}"
                raise UnsupportedVersion(msg, hint="Install a newer Donjon.")
            return cls._from_file(content)
        except OSError as error:
            msg = f"{path}: cannot be read: {error.strerror}"
            raise UsageError(msg, hint="Name the file that the request was written to.") from error
        except (msgspec.MsgspecError, ValueError) as error:
            msg = f"{path}: is no {_FORM}, or is damaged"
            raise UsageError(msg, hint="Get the file again from whoever made the request.") from error

    @classmethod
    def _from_file(cls, content: _File) -> RequestFile:
        if len(content.signatures) > MAX_APPROVERS:
            raise ValueError(len(content.signatures))
        signatures = {
            _of_length(bytes.fromhex(who), ID_BYTES): _of_length(
                base64.b64decode(signature, validate=True), SIGNATURE_BYTES
            )
            for who, signature in content.signatures.items()
        }
        return cls(
            _of_length(bytes.fromhex(content.vault_id), VAULT_ID_BYTES),
            base64.b64decode(content.request, validate=True),
            signatures,
        )


def read_merged(paths: Sequence[Path]) -> RequestFile:
    """One request with the signatures of all these files.

    Raises ``UsageError`` if the files are about different requests, or hold different signatures of
    one approver.
    """
    merged = RequestFile.read(paths[0])
    for path in paths[1:]:
        other = RequestFile.read(path)
        if (other.vault_id, other.request) != (merged.vault_id, merged.request):
            msg = f"{path}: is another request than {paths[0]}"
            raise UsageError(msg, hint="Name files that are copies of one request; compare their `request`.")
        signatures = merged.signatures | other.signatures
        for who, signature in merged.signatures.items():
            if signatures[who] != signature:
                msg = f"{path}: has another signature of {who.hex()[:12]} than {paths[0]}"
                raise UsageError(msg, hint="One of them was damaged; ask that approver to sign again.")
        merged = replace(merged, signatures=signatures)
    return merged


def _of_length(data: bytes, size_bytes: int) -> bytes:
    if len(data) != size_bytes:
        raise ValueError(len(data))
    return data
