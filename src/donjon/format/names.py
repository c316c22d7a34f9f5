"""The names of a vault's objects. See ``docs/format.md``, "Names"."""

from __future__ import annotations

VAULT = "vault"
KEYRING = "keyring/"
SESSIONS = "sessions/"
SEALS = "seals/"
PACKS = "packs/"
INDEX = "index/"
MANIFESTS = "manifests/"
CHECKPOINTS = "checkpoints/"
CERTIFICATES = "certificates/"
APPROVALS = "approvals/"
WITNESS = "witness/"
EPOCHS = "epochs/"
EVIDENCE = "evidence/"
SUCCESSIONS = "successions/"


def keyring(number: int) -> str:
    """The keyring record of this number, counted from 1."""
    return f"{KEYRING}{number:08d}"


def session(writer: bytes, number: int) -> str:
    """The session object of a writer, counted from 1."""
    return f"{SESSIONS}{writer.hex()}/{number:08d}"


def seal(recipient: bytes, writer: bytes, number: int) -> str:
    """The key of a session, sealed later for one more recipient."""
    return f"{SEALS}{recipient.hex()}/{writer.hex()}/{number:08d}"


def pack(digest: bytes) -> str:
    """The pack with this digest."""
    text = digest.hex()
    return f"{PACKS}{text[:2]}/{text}"


def index(writer: bytes, session_number: int, part: int) -> str:
    """A part of the index of a session, counted from 0."""
    return f"{INDEX}{writer.hex()}/{session_number:08d}-{part:04d}"


def manifest(writer: bytes, sequence: int) -> str:
    """The manifest with this sequence number of a writer, counted from 1."""
    return f"{MANIFESTS}{writer.hex()}/{sequence:08d}"


def checkpoint(number: int) -> str:
    """The checkpoint with this number, counted from 1."""
    return f"{CHECKPOINTS}{number:08d}"


def approval_request(digest: bytes) -> str:
    """The approval request with this digest."""
    return f"{APPROVALS}{digest.hex()}/request"


def approver_signature(request: bytes, approver: bytes) -> str:
    """What an approver signed, for the request with this digest."""
    return f"{APPROVALS}{request.hex()}/{approver.hex()}"


def certificate(digest: bytes) -> str:
    """The deletion certificate with this digest."""
    return f"{CERTIFICATES}{digest.hex()}"


def witness(vault_id: bytes, number: int) -> str:
    """Where a store that is not the vault itself keeps the checkpoint with this number."""
    return f"{WITNESS}{vault_id.hex()}/{number:08d}"


def epoch(number: int) -> str:
    """The epoch object with this number, counted from 1."""
    return f"{EPOCHS}{number:08d}"


def evidence(digest: bytes) -> str:
    """The evidence with this digest."""
    return f"{EVIDENCE}{digest.hex()}"


def succession(writer: bytes, number: int) -> str:
    """The succession to the key with this number of a writer, counted from 1."""
    return f"{SUCCESSIONS}{writer.hex()}/{number:08d}"
