"""Approvers: m of n of them decide what no single key may. See ``docs/format.md``, "Keyring"."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final

import msgspec

from donjon.codec.digest import short_id
from donjon.codec.sign import PUBLIC_BYTES, SIGNATURE_BYTES
from donjon.core.errors import IntegrityFailure
from donjon.format.limits import check_id, require

MAX_APPROVERS: Final = 16
#: A single approver would be a single person again.
MIN_APPROVALS: Final = 2
LABEL_BYTES: Final = 92

_MAX_LIST_BYTES: Final = 4 << 10


class Signature(msgspec.Struct, array_like=True, frozen=True):
    """What one approver signed, by the approver's id."""

    approver: bytes
    signature: bytes

    def __post_init__(self) -> None:
        check_id(self.approver)
        require(len(self.signature) == SIGNATURE_BYTES, "signature")


def check_signatures(signatures: Iterable[Signature], after: bytes = b"") -> None:
    """Raises ``ValueError`` unless their ids ascend, all above ``after``: so none is there twice."""
    ids = [after, *(signature.approver for signature in signatures)]
    require(all(a < b for a, b in itertools.pairwise(ids)), "order of the signatures")
    require(len(ids) - 1 <= MAX_APPROVERS, "number of signatures")


class ApproverList(msgspec.Struct, array_like=True, frozen=True):
    """Who approves from a keyring record on: ``needed`` of these ``keys``, which ascend.

    ``labels`` are hidden names, in the order of the keys.
    """

    needed: int
    keys: tuple[bytes, ...]
    labels: tuple[bytes, ...]

    def __post_init__(self) -> None:
        require(MIN_APPROVALS <= self.needed <= len(self.keys) <= MAX_APPROVERS, "number of approvers")
        require(all(len(key) == PUBLIC_BYTES for key in self.keys), "public key")
        require(all(a < b for a, b in itertools.pairwise(self.keys)), "order of the keys")
        require(len(self.labels) == len(self.keys), "number of labels")
        require(all(len(label) == LABEL_BYTES for label in self.labels), "label")

    @property
    def subject(self) -> bytes:
        """What the record names as whom it is about, 16 bytes."""
        return short_id(bytes([self.needed]) + b"".join(self.keys))

    def encode(self) -> bytes:
        """As it is in a keyring record, or in the request for one."""
        return msgspec.msgpack.encode(self)


def decode_approvers(data: bytes, what: str) -> ApproverList:
    """Raises ``IntegrityFailure`` that names ``what``."""
    if len(data) > _MAX_LIST_BYTES:
        msg = f"{what}: has a list of approvers of {len(data)} bytes, which none can have"
        raise IntegrityFailure(msg)
    try:
        return msgspec.msgpack.decode(data, type=ApproverList)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        msg = f"{what}: its list of approvers cannot be read: {error}"
        raise IntegrityFailure(msg) from error
