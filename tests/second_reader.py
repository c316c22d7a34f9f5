"""A second reader of vaults, made from ``docs/format.md`` and ``docs/keys.md`` alone.

It proves that the two texts are enough: it imports nothing of Donjon and shares no line with it. It is
made to be read beside the texts, section by section, not to be fast; it holds a whole vault in memory.

    python tests/second_reader.py FOLDER KIT [PASSPHRASE_FILE]    lists what every point holds
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import re
import stat
import struct
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zstandard
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KIB, MIB = 1024, 1024 * 1024
MAX_RAW = 5 * MIB
MAX_PACK = 512 * MIB
MAX_U32 = 2**32 - 1
#: The years 1 to 9999.
TIMES = (-62_135_596_800, 253_402_300_799)
NUMBERS = (1, 99_999_999)


class Wrong(Exception):
    """The vault or the kit is not what the specification says."""


class NotOpened(Exception):
    """The kit or the passphrase at hand does not open this."""


def _demand(condition: bool, message: str) -> None:
    if not condition:
        raise Wrong(message)


# --- format.md, 2: conventions --------------------------------------------------------------------


def digest(data: bytes) -> bytes:
    return blake3(data).digest()


def keyed(key: bytes, data: bytes) -> bytes:
    return blake3(data, key=key).digest()


def derive(context: str, material: bytes) -> bytes:
    return blake3(material, derive_key_context=context).digest()


def id16(public_key: bytes) -> bytes:
    return digest(public_key)[:16]


def nonce(number: int) -> bytes:
    return number.to_bytes(12, "little")


def unseal(key: bytes, number: int, sealed: bytes) -> bytes:
    return _decrypt(key, nonce(number), sealed)


def unbox(key: bytes, box: bytes) -> bytes:
    return _decrypt(key, box[:12], box[12:])


def _decrypt(key: bytes, nonce: bytes, sealed: bytes, associated: bytes | None = None) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except (InvalidTag, ValueError) as error:
        raise Wrong("a sealed text was changed or cut short") from error


def padme(size: int) -> int:
    if size < 2:
        return size
    e = size.bit_length() - 1
    s = e.bit_length()
    mask = (1 << (e - s)) - 1 if e > s else 0
    return (size + mask) & ~mask


def unpad(text: bytes) -> bytes:
    _demand(len(text) >= 8, "a padded text is too short")
    (size,) = struct.unpack_from("<Q", text)
    _demand(8 + size <= len(text), "a padded text is longer than it can be")
    return text[8 : 8 + size]


def verify(public_key: bytes, message: bytes, signature: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise Wrong("a signature does not fit") from error


Check = Callable[[Any], Any]
_MISSING = object()


def integer(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        _demand(type(value) is int and low <= value <= high, f"no number from {low} to {high}: {value!r:.60}")
        return int(value)

    return check


def binary(low: int, high: int) -> Check:
    def check(value: Any) -> bytes:
        _demand(type(value) is bytes and low <= len(value) <= high, f"no bytes of {low} to {high}")
        return bytes(value)

    return check


def text(value: Any) -> str:
    _demand(type(value) is str, "no text")
    return str(value)


def boolean(value: Any) -> bool:
    _demand(type(value) is bool, "no truth value")
    return bool(value)


def many(item: Check) -> Check:
    def check(value: Any) -> list[Any]:
        _demand(type(value) is list, "no array")
        return [item(element) for element in value]

    return check


def nothing_or(item: Check) -> Check:
    return lambda value: None if value is None else item(value)


def row(*columns: Check | tuple[Check, Any]) -> Check:
    """Fields in order, each a check or a check and a default; later elements are ignored."""

    def check(value: Any) -> list[Any]:
        _demand(type(value) is list, "no array")
        result = []
        for position, column in enumerate(columns):
            field_check, default = column if isinstance(column, tuple) else (column, _MISSING)
            if position < len(value):
                result.append(field_check(value[position]))
            else:
                _demand(default is not _MISSING, f"field {position} is missing")
                result.append(default)
        return result

    return check


def unpack(payload: bytes, check: Check) -> Any:
    try:
        value = msgspec.msgpack.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Wrong("no MessagePack") from error
    return check(value)


ANY_BINARY = binary(0, 256 * MIB)
ID16 = binary(16, 16)
ID32 = binary(32, 32)
TIME = integer(*TIMES)
LOCK_END = integer(0, TIMES[1])
NUMBER = integer(*NUMBERS)
COUNT = integer(0, 2**64 - 1)

# --- keys.md: sealed secrets ----------------------------------------------------------------------

_SUITE = b"HPKE" + bytes.fromhex("647a00010002")


def _extract(salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt, b"HPKE-v1" + _SUITE + label + material, "sha256")


def _expand(secret: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labeled = struct.pack(">H", length) + b"HPKE-v1" + _SUITE + label + info
    return hmac.digest(secret, labeled + b"\x01", "sha256")[:length]  # HKDF-Expand, one block


def hpke_public(private: bytes) -> bytes:
    mlkem = MLKEM768PrivateKey.from_seed_bytes(private[:64])
    x25519 = X25519PrivateKey.from_private_bytes(private[64:])
    return mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


def hpke_open(private: bytes, sealed: bytes, info: bytes) -> bytes:
    if len(sealed) != 1168:
        raise NotOpened("key not available")
    x25519 = X25519PrivateKey.from_private_bytes(private[64:])
    ct_x = sealed[1088:1120]
    try:
        ss_m = MLKEM768PrivateKey.from_seed_bytes(private[:64]).decapsulate(sealed[:1088])
        ss_x = x25519.exchange(X25519PublicKey.from_public_bytes(ct_x))
        shared = hashlib.sha3_256(
            ss_m + ss_x + ct_x + x25519.public_key().public_bytes_raw() + bytes.fromhex("5c2e2f2f5e5c")
        ).digest()
        context = b"\0" + _extract(b"", b"psk_id_hash", b"") + _extract(b"", b"info_hash", info)
        secret = _extract(shared, b"secret", b"")
        key, base_nonce = (
            _expand(secret, *part) for part in ((b"key", context, 32), (b"base_nonce", context, 12))
        )
        return AESGCM(key).decrypt(base_nonce, sealed[1120:], None)
    except (InvalidTag, ValueError) as error:
        raise NotOpened("key not available") from error


# --- keys.md: passphrases -------------------------------------------------------------------------


def argon2(passphrase: str, memory_kib: int, passes: int, lanes: int, salt: bytes) -> bytes:
    _demand(8 * KIB <= memory_kib <= MIB and 1 <= passes <= 16 and 1 <= lanes <= 16, "a cost out of bounds")
    secret = unicodedata.normalize("NFC", passphrase).encode()
    _demand(len(secret) > 0, "an empty passphrase")
    return hash_secret_raw(secret, salt, passes, memory_kib, lanes, 32, Type.ID, 0x13)


def _open_with_passphrase(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(bytes(12), sealed, associated)
    except InvalidTag as error:
        raise NotOpened("key not available: a wrong passphrase?") from error


def passphrase_private_key(extra: bytes, public: bytes, passphrase: str) -> bytes:
    shape = row(
        integer(1, 1), integer(0, MAX_U32), integer(0, MAX_U32), integer(0, MAX_U32), ID16, binary(112, 112)
    )
    _, memory_kib, passes, lanes, salt, sealed = unpack(extra, shape)
    argon = struct.pack("<III", memory_kib, passes, lanes) + salt
    key = argon2(passphrase, memory_kib, passes, lanes, salt)
    private = _open_with_passphrase(key, sealed, b"donjon/v1/passphrase-recipient\0" + public + argon)
    _demand(hpke_public(private) == public, "a private key of another recipient")
    return private


# --- keys.md: the recovery kit --------------------------------------------------------------------


@dataclass(frozen=True)
class Kit:
    vault_id: bytes
    created: int
    fingerprint: str
    name: str
    address: str
    private: bytes
    root_seed: bytes | None


_BLOCK = re.compile(r"-----BEGIN DONJON RECOVERY KIT-----\n(.*)-----END DONJON RECOVERY KIT-----", re.DOTALL)
_QR = "DONJON-KIT:1:"


def _base32(letters: str) -> bytes:
    letters = letters.upper().translate(str.maketrans("018", "OIB"))
    try:
        return base64.b32decode(letters + "=" * (-len(letters) % 8))
    except ValueError as error:
        raise Wrong("no base32") from error


def _line(number: int, line: str) -> bytes:
    parts = line.split()
    _demand(len(parts) >= 3 and parts[0] == f"{number:02}", f"line {number} of the kit is missing")
    data = _base32("".join(parts[1:-1]))
    check = base64.b32encode(digest(bytes([number]) + data)).decode()[:4]
    typed = parts[-1].upper().translate(str.maketrans("018", "OIB"))
    _demand(check == typed, f"line {number} of the kit does not fit its check")
    return data


def kit_payload(kit: str) -> bytes:
    kit = kit.removeprefix("\ufeff").replace("\r\n", "\n")
    joined = "".join(kit.split())
    if joined.upper().startswith(_QR):
        return _base32(joined[len(_QR) :])
    _demand(kit.strip().split("\n")[0].strip() == "donjon recovery kit v1", "no recovery kit of version 1")
    block = _BLOCK.search(kit)
    if block is None:
        raise Wrong("a kit without a block")
    lines = [line for line in block[1].split("\n") if line.strip()]
    return b"".join(_line(number, line) for number, line in enumerate(lines, start=1))


def read_kit(kit: str, passphrase: str | None = None) -> Kit:
    payload = kit_payload(kit)
    _demand(len(payload) > 8 and digest(payload[:-8])[:8] == payload[-8:], "the kit's checksum does not fit")
    try:
        version, flags, vault_id, created, fingerprint = struct.unpack_from("<BB16sQ15s", payload)
        _demand(version == 1 and flags < 4, "a kit of a newer version")
        at = 41
        name = payload[at + 1 : at + 1 + payload[at]].decode()
        at += 1 + payload[at]
        (length,) = struct.unpack_from("<H", payload, at)
        address = payload[at + 2 : at + 2 + length].decode()
        at += 2 + length
        if flags & 2:
            memory_kib, passes, lanes, salt = struct.unpack_from("<III16s", payload, at)
            at += 28
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Wrong("a kit that is too short or no text") from error
    secret = payload[at:-8]
    if flags & 2:
        if passphrase is None:
            raise NotOpened("the kit needs its passphrase")
        key = argon2(passphrase, memory_kib, passes, lanes, salt)
        secret = _open_with_passphrase(key, secret, b"donjon/v1/recovery-kit\0" + payload[:at])
    _demand(len(secret) == (128 if flags & 1 else 96), "a kit of a wrong length")
    private, root_seed = secret[:96], secret[96:] or None
    public = hpke_public(private) + (_root_public(root_seed) if root_seed else b"")
    _demand(digest(public)[:15] == fingerprint, "a kit with another fingerprint than its keys")
    letters = base64.b32encode(fingerprint).decode()
    shown = "-".join(letters[i : i + 4] for i in range(0, 24, 4))
    return Kit(vault_id, created, shown, name, address, private, root_seed)


def _root_public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


# --- format.md, 3: names --------------------------------------------------------------------------

_ID = "[0-9a-f]{32}"
_NAME = re.compile(
    rf"vault|keyring/[0-9]{{8}}|sessions/{_ID}/[0-9]{{8}}|seals/{_ID}/{_ID}/[0-9]{{8}}"
    rf"|packs/([0-9a-f]{{2}})/\1[0-9a-f]{{62}}|index/{_ID}/[0-9]{{8}}-[0-9]{{4}}|manifests/{_ID}/[0-9]{{8}}"
    rf"|successions/{_ID}/[0-9]{{8}}"
)


def read_folder(folder: Path) -> dict[str, bytes]:
    """All objects of a vault in a local folder, by name. Other names are left alone."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    named = ((path.relative_to(folder).as_posix(), path) for path in files)
    return {name: path.read_bytes() for name, path in named if _NAME.fullmatch(name)}


# --- format.md, 4: signed objects -----------------------------------------------------------------

VAULT, KEYRING, SESSION, INDEX, MANIFEST, SEAL, CHECKPOINT, CERTIFICATE, _EPOCH, EVIDENCE = range(1, 11)
REQUEST, APPROVER_SIGNATURE = 11, 12
SUCCESSION, ALLOWED_SUCCESSION = 13, 14
_LIMITS = {
    VAULT: 4 * KIB,
    KEYRING: 64 * KIB,
    SESSION: MIB,
    INDEX: 256 * MIB,
    MANIFEST: 16 * MIB,
    SEAL: 4 * KIB,
    CHECKPOINT: 16 * MIB,
    CERTIFICATE: MIB,
    EVIDENCE: MIB,
    REQUEST: MIB,
    APPROVER_SIGNATURE: 4 * KIB,
    SUCCESSION: 4 * KIB,
    ALLOWED_SUCCESSION: 16 * KIB,
}


def parse(kind: int, data: bytes, shape: Check) -> Any:
    """The payload, checked for all but its signature."""
    _demand(len(data) <= _LIMITS[kind], "an object above its limit")
    _demand(len(data) >= 76, "an object that is cut short")
    magic, found, version, zero, size = struct.unpack_from("<4sBBHI", data)
    _demand(magic == b"DNJN", "no object of Donjon")
    _demand(version == 1, "an object of a newer version")
    _demand(found == kind and zero == 0, "an object of another kind")
    _demand(12 + size + 64 == len(data), "an object of another length than it says")
    return unpack(data[12:-64], shape)


def check_signature(public_key: bytes, vault_id: bytes, data: bytes) -> None:
    verify(public_key, b"donjon/v1/object\0" + vault_id + data[:-64], data[-64:])


def by_any(keys: Sequence[bytes], check: Callable[[bytes], None]) -> None:
    """Raises ``Wrong`` unless ``check`` is content with one of the keys. format.md, 27"""
    for key in keys[:-1]:
        try:
            return check(key)
        except Wrong:
            continue
    return check(keys[-1])


_ALLOWED_SHAPE = row(ID16, integer(1, 1000), binary(32, 32), TIME, binary(32, 32), binary(0, 8 * KIB))
_SUCCESSION_SHAPE = row(ID16, integer(1, 1000), binary(32, 32), TIME, binary(32, 32), binary(64, 64))


# --- format.md, 5 and 6: vault object and keyring -------------------------------------------------

_VAULT_SHAPE = row(
    ID16,
    TIME,
    ID32,
    integer(64, MIB),
    integer(256, 4 * MIB),
    integer(KIB, 4 * MIB),
    integer(0, MAX_U32),
    integer(1, MAX_U32),
)
_RECORD_SHAPE = row(
    NUMBER,
    ID32,
    TIME,
    integer(1, 9),
    ID16,
    (text, ""),
    (ANY_BINARY, b""),
    (ANY_BINARY, b""),
    (binary(0, 8 * KIB), b""),
    (ANY_BINARY, b""),
)
_SIGNATURES_SHAPE = many(row(ID16, binary(64, 64)))
_APPROVERS_SHAPE = row(integer(2, 16), many(ID32), many(binary(92, 92)))
_APPROVAL_SHAPE = row(ANY_BINARY, _SIGNATURES_SHAPE)


def _ascends(values: Sequence[Any]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))


#: format.md, 24: what is sealed to them, only they open.
KEY_SERVICES = {"aws-kms", "azure-keyvault", "gcp-kms", "openbao", "pkcs11"}


class Recipient(NamedTuple):
    kind: str
    label: bytes
    public: bytes
    extra: bytes
    sealed_secret: bytes


@dataclass
class Approvers:
    """m of these keys are needed; ``record`` is the digest of the record that says so."""

    m: int
    keys: dict[bytes, bytes]
    record: bytes

    def count(self, message: bytes, signatures: Sequence[Sequence[bytes]]) -> int:
        """How many of them signed; others say nothing."""
        known = [(self.keys[who], signature) for who, signature in signatures if who in self.keys]
        for key, signature in known:
            verify(key, message, signature)
        return len(known)


@dataclass
class Keyring:
    recipients: dict[bytes, Recipient] = field(default_factory=dict)
    writers: dict[bytes, bytes] = field(default_factory=dict)
    writer_labels: dict[bytes, bytes] = field(default_factory=dict)
    revoked: set[bytes] = field(default_factory=set)
    custodians: dict[bytes, bytes] = field(default_factory=dict)
    revoked_custodians: set[bytes] = field(default_factory=set)
    auditors: dict[bytes, bytes] = field(default_factory=dict)
    revoked_auditors: set[bytes] = field(default_factory=set)
    approvers: Approvers | None = None
    approver_sets: dict[bytes, Approvers] = field(default_factory=dict)
    root: bytes = b""
    records: int = 0
    latest: int = TIMES[0]
    begun: dict[bytes, bytes] = field(default_factory=dict)

    def apply(self, record: list[Any], previous: bytes, head: bytes = b"") -> None:
        """``head`` is the digest of the record itself, which approvals name."""
        number, said, created, action, subject, kind, label, public, extra, sealed = record
        _demand(number == self.records + 1 and said == previous, "a keyring record that is out of order")
        self.records = number
        _demand(action in {2, 7} or len(extra) <= KIB, "an extra that is too long")
        allowed = self._allowed(extra, action, subject, created)
        self.latest = max(self.latest, created)
        if action == 7:
            _demand(self.approvers is not None or number == 1, "approvers in a vault made without")
            self._set_approvers(subject, allowed, head)
        elif action == 1:
            self._add_recipient(subject, Recipient(kind, label, public, extra, sealed), head)
        elif action == 2:
            _demand(subject in self.recipients and len(self.recipients) > 1, "no recipient to remove")
            del self.recipients[subject]
        elif action == 3:
            _demand(len(public) == 32 and subject == id16(public), "a writer with another id")
            self._demand_new(subject, label)
            self.writers[subject], self.writer_labels[subject] = public, label
        elif action == 4:
            _demand(subject in self.writers, "no writer to revoke")
            self.revoked.add(subject)
        elif action == 5:
            _demand(len(public) == 32 and subject == id16(public), "a custodian with another id")
            self._demand_new(subject, label)
            self.custodians[subject] = public
        elif action == 6:
            _demand(subject in self.custodians, "no custodian to revoke")
            self.revoked_custodians.add(subject)
        elif action == 8:
            _demand(len(public) == 32 and subject == id16(public), "an auditor with another id")
            self._demand_new(subject, label)
            self.auditors[subject] = public
        else:
            _demand(subject in self.auditors, "no auditor to revoke")
            self.revoked_auditors.add(subject)

    def _add_recipient(self, subject: bytes, new: Recipient, head: bytes) -> None:
        kind, label, public, extra, sealed = new
        _demand(len(label) == 92, "a recipient without a label")
        if kind in KEY_SERVICES:
            named = b"donjon/v1/key-service\0" + kind.encode() + b"\0" + extra
            _demand(public == b"" and subject == id16(named), "a key service with another id")
            _demand(1 <= len(sealed) <= 2048, "a key service without the vault secret")
        else:
            _demand(kind in {"kit", "passphrase"}, "a recipient of no known kind")
            _demand(len(public) == 1216 and subject == id16(public), "a recipient with another id")
            _demand(len(sealed) == 1168, "a recipient without the vault secret")
        _demand(subject not in self.recipients and len(self.recipients) < 256, "a recipient too many")
        self.recipients[subject] = new
        self.begun[subject] = head

    def _allowed(self, extra: bytes, action: int, subject: bytes, created: int) -> bytes:
        """The list of approvers in a record: their own, or what those before allowed."""
        if action in {2, 7} and self.approvers is not None:
            ends = self.begun.get(subject, b"") if action == 2 else self.approvers.record
            return self._approved(extra, [ends, action, subject], created)
        _demand(action != 2 or not extra, "an approval where nobody approves")
        return extra

    def _approved(self, extra: bytes, wanted: list[Any], created: int) -> bytes:
        """The list of approvers that enough of the present ones allowed, empty for a removal."""
        assert self.approvers is not None
        payload, signatures = unpack(extra, _APPROVAL_SHAPE)
        request = read_request(payload)
        signers = [who for who, _ in signatures]
        _demand(_ascends(signers) and len(signers) <= 16, "signatures out of order")
        _demand(request.operation == 2 and request.parameters[:3] == wanted, "another approval")
        _demand(self.latest <= created <= request.expires, "an approval that expired")
        signed = self.approvers.count(approval_message(self.root, payload), signatures)
        _demand(self.approvers.m <= signed == len(signatures), "a change that too few allowed")
        allowed = request.parameters[3]
        assert isinstance(allowed, bytes)
        return allowed

    def _set_approvers(self, subject: bytes, data: bytes, head: bytes) -> None:
        m, keys, labels = unpack(data, _APPROVERS_SHAPE)
        _demand(2 <= m <= len(keys) <= 16 and len(labels) == len(keys), "too few or too many approvers")
        _demand(_ascends(keys) and self.root not in keys, "approvers out of order, or the root key")
        _demand(subject == id16(bytes([m]) + b"".join(keys)), "a record about other approvers")
        self.approvers = Approvers(m, {id16(key): key for key in keys}, head)
        self.approver_sets[head] = self.approvers

    def allowed_key(self, wanted: list[Any], extra: bytes, created: int) -> tuple[int, bytes]:
        """The last point that counts of earlier keys, if approvers allowed this one. format.md, 27"""
        payload, signatures = unpack(extra, _APPROVAL_SHAPE)
        request = read_request(payload)
        signers = [who for who, _ in signatures]
        _demand(_ascends(signers) and len(signers) <= 16, "signatures out of order")
        _demand(request.operation == 4 and request.parameters[1:5] == wanted, "another approval")
        _demand(request.created <= created <= request.expires, "an approval that expired")
        _demand(request.parameters[0] in self.approver_sets, "approvers that nobody set")
        approvers = self.approver_sets[request.parameters[0]]
        count = approvers.count(approval_message(self.root, payload), signatures)
        _demand(approvers.m <= count == len(signatures), "a key that too few allowed")
        return request.parameters[5], request.parameters[6]

    def _demand_new(self, subject: bytes, label: bytes) -> None:
        known = subject in self.writers | self.custodians | self.auditors
        _demand(len(label) == 92 and not known, "a signer that was there before")


# --- format.md, 8 to 10: sessions, packs, index ---------------------------------------------------

_SESSION_SHAPE = row(ID16, NUMBER, TIME, NUMBER, LOCK_END, ID32, many(row(ID16, binary(1, 2048))))
_SEAL_SHAPE = row(ID16, ID16, NUMBER, binary(1, 2048))
_INDEX_SHAPE = row(ID16, NUMBER, integer(0, 9999), ANY_BINARY, ANY_BINARY)

TRAILER = 188


class Place(NamedTuple):
    """Where a chunk is: a frame of a pack, and a part of its raw bytes."""

    pack: str
    session: int
    ordinal: int
    frame_offset: int
    sealed: int
    raw: int
    number: int
    coding: int
    offset: int
    length: int


class Trailer(NamedTuple):
    kind: int
    writer: bytes
    session: int
    ordinal: int
    sealed_length: bytes


def read_trailer(pack: bytes, vault_id: bytes, keys: Mapping[bytes, Sequence[bytes]]) -> Trailer:
    _demand(TRAILER <= len(pack) <= MAX_PACK, "a pack of no possible size")
    trailer = pack[-TRAILER:]
    magic, version, kind, zero, vault, writer, session, ordinal, zeros, sealed_length, said = struct.unpack(
        "<4sBBH16s16sQII36s32s", trailer[:124]
    )
    _demand(magic == b"DNJP", "no pack")
    _demand(version == 1, "a pack of a newer version")
    _demand(kind in {1, 2} and zero == 0 and zeros == 0 and vault == vault_id, "a pack of another vault")
    _demand(NUMBERS[0] <= session <= NUMBERS[1] and ordinal <= 4_194_303, "a pack out of bounds")
    _demand(writer in keys, "a pack of an unknown writer")
    by_any(keys[writer], lambda key: verify(key, b"donjon/v1/pack\0" + trailer[:124], trailer[124:]))
    _demand(said == digest(pack[:-TRAILER]), "a pack that was changed")
    return Trailer(kind, writer, session, ordinal, sealed_length)


def footer_key(index_key: bytes, writer: bytes, session: int, ordinal: int) -> bytes:
    return derive("donjon v1 pack footer", index_key + writer + struct.pack("<QI", session, ordinal))


def read_footer(name: str, pack: bytes, trailer: Trailer, index_key: bytes) -> dict[bytes, list[Place]]:
    """The places of all chunks of a pack, by chunk id."""
    key = footer_key(index_key, trailer.writer, trailer.session, trailer.ordinal)
    (size,) = struct.unpack("<Q", unbox(key, trailer.sealed_length))
    _demand(36 <= size <= len(pack) - TRAILER, "a footer of no possible size")
    frames_end = len(pack) - TRAILER - size
    rows = unbox(key, pack[frames_end:-TRAILER])
    frames, chunks = struct.unpack_from("<II", rows)
    _demand(8 + 20 * frames + 36 * chunks <= len(rows), "a footer with too few rows")
    chunk_rows = struct.iter_unpack("<32sI", rows[8 + 20 * frames : 8 + 20 * frames + 36 * chunks])
    places: dict[bytes, list[Place]] = {}
    offset = 0
    for number, sealed, raw, count, coding in struct.iter_unpack("<QIIHBx", rows[8 : 8 + 20 * frames]):
        _demand(16 <= sealed <= MAX_RAW + 16 and raw <= MAX_RAW, "a frame out of bounds")
        inside = 0
        for _ in range(count):
            chunk = next(chunk_rows, None)
            if chunk is None:
                raise Wrong("a footer with too few chunks")
            places.setdefault(chunk[0], []).append(
                Place(
                    name,
                    trailer.session,
                    trailer.ordinal,
                    offset,
                    sealed,
                    raw,
                    number,
                    coding,
                    inside,
                    chunk[1],
                )
            )
            inside += chunk[1]
        _demand(inside == raw, "a frame whose chunks do not fill it")
        offset += sealed
    _demand(offset == frames_end and next(chunk_rows, None) is None, "a footer that does not fit its pack")
    return places


def read_table(table: bytes) -> dict[bytes, list[Place]]:
    """The places of all chunks of an index table, by chunk id."""
    _demand(len(table) >= 16 and table[:4] == b"DNJT", "no table")
    packs, frames, chunks = struct.unpack_from("<III", table, 4)
    frames_at = 16 + 64 * packs
    chunks_at = frames_at + 28 * frames
    _demand(len(table) == chunks_at + 44 * chunks, "a table of another size than its counts say")
    pack_rows = list(struct.iter_unpack("<32sQIB3xQQ", table[16:frames_at]))
    frame_rows = list(struct.iter_unpack("<IIIIQB3x", table[frames_at:chunks_at]))
    places: dict[bytes, list[Place]] = {}
    last = b""
    for chunk_id, frame, offset, length in struct.iter_unpack("<32sIII", table[chunks_at:]):
        _demand(last <= chunk_id and frame < frames, "a table that is not in order")
        last = chunk_id
        pack, frame_offset, sealed, raw, number, coding = frame_rows[frame]
        _demand(pack < packs, "a table with a frame of no pack")
        name, session, ordinal, _, size, _ = pack_rows[pack]
        _demand(offset + length <= raw <= MAX_RAW, "a chunk beyond its frame")
        _demand(16 <= sealed <= MAX_RAW + 16 and frame_offset + sealed <= size, "a frame beyond its pack")
        pack_name = f"packs/{name.hex()[:2]}/{name.hex()}"
        places.setdefault(chunk_id, []).append(
            Place(pack_name, session, ordinal, frame_offset, sealed, raw, number, coding, offset, length)
        )
    return places


def index_object_key(index_key: bytes, writer: bytes, session: int, part: int) -> bytes:
    return derive("donjon v1 index object", index_key + writer + struct.pack("<QI", session, part))


# --- format.md, 11: metadata ----------------------------------------------------------------------


def _component(value: Any) -> bytes:
    name = bytes(binary(1, 4096)(value))
    _demand(b"/" not in name and b"\0" not in name and name not in {b".", b".."}, "a name that is none")
    return name


_ID_U32 = integer(0, MAX_U32)
_SIZE = integer(0, 2**63 - 1)
_SECONDS = integer(-(2**63), 2**63 - 1)
_NANOSECONDS = integer(0, 999_999_999)
_ENTRY_SHAPE = row(
    integer(0, 4095),
    _component,
    integer(1, 7),
    (integer(0, 0o7777), 0),
    (_ID_U32, 0),
    (_ID_U32, 0),
    (text, ""),
    (text, ""),
    (_SECONDS, 0),
    (_NANOSECONDS, 0),
    (_SECONDS, 0),
    (_NANOSECONDS, 0),
    (COUNT, 0),
    (COUNT, 0),
    (COUNT, 1),
    (_SIZE, 0),
    (ANY_BINARY, b""),
    (boolean, False),
    (nothing_or(many(row(_SIZE, integer(1, 2**63 - 1)))), None),
    (ANY_BINARY, b""),
    (COUNT, 0),
    (many(row(binary(1, MIB * 4), binary(0, MIB * 4))), []),
    (binary(0, 400), b""),
)
_ROOT_SHAPE = many(row(ID32, ANY_BINARY, integer(1, MAX_U32)))
_PROBLEM_SHAPE = many(row(ANY_BINARY, text))

FILE, DIRECTORY, LINK = 1, 2, 3
KINDS = ("file", "directory", "symlink", "fifo", "socket", "character device", "block device")


@dataclass(frozen=True)
class Entry:
    """One item: what is said of it, and where its data is."""

    path: bytes
    depth: int
    name: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    user: str
    group: str
    mtime: tuple[int, int]
    ctime: tuple[int, int]
    device: int
    inode: int
    links: int
    size: int
    chunks: tuple[bytes, ...]
    indirect: bool
    extents: tuple[tuple[int, int], ...] | None
    target: bytes
    rdev: int
    attributes: tuple[tuple[bytes, bytes], ...]


def _split_ids(ids: bytes) -> tuple[bytes, ...]:
    _demand(len(ids) % 32 == 0, "chunk ids that are cut short")
    return tuple(ids[i : i + 32] for i in range(0, len(ids), 32))


def _entry(fields: Sequence[Any], path: bytes) -> Entry:
    depth, name, kind, mode, uid, gid, user, group, ms, mns, cs, cns, device, inode, links = fields[:15]
    size, chunks, indirect, extents, target, rdev, attributes, _ = fields[15:]
    end = 0
    for offset, length in extents or ():
        _demand(end <= offset, "extents that overlap")
        end = offset + length
    _demand(end <= size, "an extent beyond the file")
    if kind != FILE:
        _demand(not (chunks or indirect or size) and extents is None, "content of what is no file")
    _demand((kind == LINK) == bool(target) and b"\0" not in target, "a target of what is no link")
    _demand(all(b"\0" not in key for key, _ in attributes), "a zero byte in an attribute's name")
    return Entry(
        path=path,
        depth=depth,
        name=name,
        kind=kind,
        mode=mode,
        uid=uid,
        gid=gid,
        user=user,
        group=group,
        mtime=(ms, mns),
        ctime=(cs, cns),
        device=device,
        inode=inode,
        links=links,
        size=size,
        chunks=_split_ids(chunks),
        indirect=indirect,
        extents=None if extents is None else tuple((o, n) for o, n in extents),
        target=target,
        rdev=rdev,
        attributes=tuple((key, value) for key, value in attributes),
    )


class _Stream:
    """Turns depths and names into paths, and refuses what is out of order."""

    def __init__(self) -> None:
        self._names: list[bytes] = []
        self._last_is_directory = True

    def take(self, fields: Sequence[Any]) -> Entry:
        depth, name, kind = fields[:3]
        deepest = len(self._names) - 1
        _demand(depth <= deepest + self._last_is_directory, "an entry deeper than the directory before it")
        if depth <= deepest:
            _demand(self._names[depth] < name, "entries that are not in order")
        self._names[depth:] = [name]
        self._last_is_directory = kind == DIRECTORY
        return _entry(fields, b"/".join(self._names))


# --- format.md, 12: manifests ---------------------------------------------------------------------

_MANIFEST_SHAPE = row(
    ID16, NUMBER, ID32, NUMBER, TIME, LOCK_END, many(row(ID16, NUMBER, ANY_BINARY)), ANY_BINARY
)
_BODY_SHAPE = row(
    text,
    text,
    many(ANY_BINARY),
    many(text),
    TIME,
    TIME,
    *(COUNT,) * 10,
    ANY_BINARY,
    ANY_BINARY,
    text,
)


@dataclass(frozen=True)
class Point:
    point_id: bytes
    writer: bytes
    sequence: int
    previous: bytes
    session: int
    created: int
    protected_until: int
    #: (session, ordinal) of every pack that it may use
    uses: frozenset[tuple[int, int]]
    body: bytes


@dataclass(frozen=True)
class Body:
    workload: str
    host: str
    paths: tuple[bytes, ...]
    tags: tuple[str, ...]
    started: int
    finished: int
    #: fields 6 to 15
    counts: tuple[int, ...]
    root: tuple[bytes, ...]
    problems: tuple[bytes, ...]
    program: str


def read_manifest(data: bytes) -> Point:
    writer, sequence, previous, session, created, protected, uses, body = parse(
        MANIFEST, data, _MANIFEST_SHAPE
    )
    bits = 0
    packs: set[tuple[int, int]] = set()
    last = 0
    for used_writer, used_session, bitmap in uses:
        _demand(used_writer == writer and last < used_session, "uses of another writer or out of order")
        last = used_session
        bits += sum(byte.bit_count() for byte in bitmap)
        _demand(bits <= 4_194_304 and len(bitmap) <= 524_288, "a bitmap above its limit")
        packs.update(
            (used_session, 8 * i + bit)
            for i, byte in enumerate(bitmap)
            for bit in range(8)
            if byte >> bit & 1
        )
    return Point(
        digest(data), writer, sequence, previous, session, created, protected, frozenset(packs), body
    )


# --- format.md, 20: checkpoints ---------------------------------------------------------------------

_CHECKPOINT_SHAPE = row(
    ID16, NUMBER, ID32, TIME, integer(0, NUMBERS[1]), ID32, many(row(ID16, NUMBER, ID32, ANY_BINARY))
)


class Attested(NamedTuple):
    """What a checkpoint says of one point."""

    writer: bytes
    sequence: int
    time: int
    protected_until: int
    point_id: bytes


class Checkpoint(NamedTuple):
    custodian: bytes
    number: int
    previous: bytes
    created: int
    keyring: tuple[int, bytes]
    #: the last sequence and point id of every writer
    ends: dict[bytes, tuple[int, bytes]]
    points: list[Attested]


def read_checkpoint(data: bytes) -> Checkpoint:
    custodian, number, previous, created, record, head, chains = parse(CHECKPOINT, data, _CHECKPOINT_SHAPE)
    _demand(number > 1 or previous == bytes(32), "a first checkpoint that follows another")
    ends: dict[bytes, tuple[int, bytes]] = {}
    points: list[Attested] = []
    for writer, last, end, rows in chains:
        _demand(not ends or writer > max(ends), "writers out of order")
        _demand(len(rows) % 52 == 0, "rows that are cut short")
        ends[writer] = (last, end)
        before = 0
        for found in struct.iter_unpack("<IQQ32s", rows):
            sequence, time, protected, point_id = found
            _demand(before < sequence <= last, "rows out of order")
            _demand(max(time, protected) <= TIMES[1], "a time out of range")
            _demand(sequence < last or point_id == end, "another end than the last row")
            before = sequence
            points.append(Attested(writer, *found))
    return Checkpoint(custodian, number, previous, created, (record, head), ends, points)


# --- format.md, 25: evidence ------------------------------------------------------------------------

_EVIDENCE_SHAPE = row(
    ID16, ID32, binary(0, KIB), TIME, text, text, text, many(row(text, text, text, text, text))
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_KIND = re.compile("[a-z0-9][a-z0-9-]{0,31}")


class Evidence(NamedTuple):
    signer: bytes
    created: int
    kind: str
    program: str
    subject: str
    rows: list[list[str]]
    passed: bool


def _demand_texts(*texts: tuple[str, int]) -> None:
    for said, limit in texts:
        _demand(len(said.encode()) <= limit and not _CONTROL.search(said), "a text that is none")


def read_evidence(data: bytes, vault_id: bytes) -> Evidence:
    """Checked by the vault's id alone."""
    signer, root, record, created, kind, program, subject, rows = parse(EVIDENCE, data, _EVIDENCE_SHAPE)
    _demand(_KIND.fullmatch(kind) is not None and 1 <= len(rows) <= 2000, "evidence of no kind, or too much")
    _demand_texts((program, 64), (subject, 200))
    for *texts, answer, outcome in rows:
        _demand_texts(*((said, 200) for said in texts), (answer, 500))
        _demand(outcome in {"passed", "failed", "skipped"}, "an outcome of no kind")
    _demand(id16(root) == vault_id, "evidence of another vault")
    certifies = parse(KEYRING, record, _RECORD_SHAPE)
    check_signature(root, vault_id, record)
    public = certifies[7]
    _demand(certifies[3] in {3, 5, 8} and certifies[4] == signer == id16(public), "evidence of nobody")
    check_signature(public, vault_id, data)
    outcomes = {row[4] for row in rows}
    return Evidence(
        signer, created, kind, program, subject, rows, "passed" in outcomes and "failed" not in outcomes
    )


_SAYS = re.compile("point ([0-9a-f]{64})")
_WHY = re.compile("(?:[0-9a-f]{2})+")
_LIFTS = re.compile("clean, lifts ([0-9a-f]{64})")


def verdict(found: Evidence) -> list[tuple[bytes, bytes | None, bytes]]:
    """(point, the mark that is lifted or None for a mark, sealed reason) of each row that says something."""
    said: list[tuple[bytes, bytes | None, bytes]] = []
    for tried, _, seen, answer, outcome in found.rows if found.kind == "verdict" else []:
        if (point := _SAYS.fullmatch(tried)) is None:
            continue
        about, reason = bytes.fromhex(point[1]), bytes.fromhex(answer) if _WHY.fullmatch(answer) else b""
        if outcome == "failed":
            said.append((about, None, reason))
        elif outcome == "passed" and (lifts := _LIFTS.fullmatch(seen)) is not None:
            said.append((about, bytes.fromhex(lifts[1]), reason))
    return said


def suspects(verdicts: dict[bytes, Evidence], judges: set[bytes]) -> set[bytes]:
    """The suspect points, from evidence that counts by its digest, and who is an auditor or a custodian."""
    said = {key: verdict(one) for key, one in verdicts.items() if one.signer in judges}
    lifted = {(point, mark) for rows in said.values() for point, mark, _ in rows}
    return {
        point
        for key, rows in said.items()
        for point, mark, _ in rows
        if mark is None and (point, key) not in lifted
    }


# --- format.md, 26 and 21: approvals, deletion certificates -------------------------------------------

_REQUEST_SHAPE = row(integer(1, 5), ANY_BINARY, ID16, TIME, TIME, ID16, ANY_BINARY)
_POINTS_SHAPE = row(many(row(ID16, NUMBER, ID32)))
_CHANGE_SHAPE = row(ID32, integer(2, 7), ID16, ANY_BINARY)
_PLAN_SHAPE = row(ID32, ID32)
_KEY_SHAPE = row(ID32, ID16, integer(1, 1000), ID32, ID32, integer(0, 99_999_999), ID32)
_SUSPECT_SHAPE = row(ID16, NUMBER, ID32, many(ID32))
_APPROVER_SIGNATURE_SHAPE = row(ID32, ID16)
_CERTIFICATE_SHAPE = row(ANY_BINARY, ID16, _SIGNATURES_SHAPE)


class Request(NamedTuple):
    operation: int
    parameters: list[Any]
    asked_by: bytes
    created: int
    expires: int
    reason: bytes


class Certificate(NamedTuple):
    request: Request
    points: list[tuple[bytes, int, bytes]]
    payload: bytes
    signatures: list[tuple[bytes, bytes]]


def read_request(payload: bytes) -> Request:
    operation, encoded, asked_by, created, expires, _, reason = unpack(payload, _REQUEST_SHAPE)
    _demand(0 < expires - created <= 90 * 86_400, "a request of no possible life")
    _demand(len(reason) in {0, 228}, "a reason of no possible size")
    parameters = unpack(
        encoded,
        {1: _POINTS_SHAPE, 2: _CHANGE_SHAPE, 3: _PLAN_SHAPE, 4: _KEY_SHAPE, 5: _SUSPECT_SHAPE}[operation],
    )
    if operation == 1:
        rows = list(map(tuple, parameters[0]))
        _demand(1 <= len(rows) <= 10_000 and _ascends(rows), "points out of order")
    elif operation == 2:
        _demand(parameters[1] in {2, 7} and (parameters[1] == 7) == bool(parameters[3]), "another change")
    elif operation == 4:
        _demand((parameters[5] == 0) == (parameters[6] == bytes(32)), "a last point that is none")
    elif operation == 5:
        _demand(1 <= len(parameters[3]) <= 100 and _ascends(parameters[3]), "marks out of order")
    return Request(operation, parameters, asked_by, created, expires, reason)


def approval_message(root: bytes, payload: bytes) -> bytes:
    return b"donjon/v1/approval\0" + id16(root) + payload


def asked(name: str, data: bytes, keyring: Keyring) -> Request:
    """A request in the vault, by somebody who may ask."""
    _demand(name == f"approvals/{digest(data).hex()}/request", "a request of another name")
    request = read_request(msgspec.msgpack.encode(parse(REQUEST, data, _REQUEST_SHAPE)))
    known = {id16(keyring.root): keyring.root} | keyring.writers
    known |= keyring.approvers.keys if keyring.approvers else {}
    _demand(request.asked_by in known, "a request of nobody")
    check_signature(known[request.asked_by], id16(keyring.root), data)
    return request


def signed(name: str, data: bytes, request: bytes, keyring: Keyring) -> bytes:
    """The approver who signed a request object, by a signature in the vault."""
    about, who = parse(APPROVER_SIGNATURE, data, _APPROVER_SIGNATURE_SHAPE)
    _demand(about == digest(request), "a signature for another request")
    _demand(name == f"approvals/{about.hex()}/{who.hex()}", "a signature of another name")
    assert keyring.approvers is not None
    message = approval_message(keyring.root, request[12:-64])
    _demand(keyring.approvers.count(message, [(who, data[-64:])]) == 1, "a signature of nobody")
    assert isinstance(who, bytes)
    return who


def read_certificate(data: bytes) -> Certificate:
    payload, first, others = parse(CERTIFICATE, data, _CERTIFICATE_SHAPE)
    signatures = [(first, data[-64:]), *map(tuple, others)]
    _demand(_ascends([who for who, _ in signatures]) and len(others) <= 15, "signatures out of order")
    request = read_request(payload)
    _demand(request.operation == 1, "a certificate for something else")
    return Certificate(request, list(map(tuple, request.parameters[0])), payload, signatures)


def certified_points(name: str, data: bytes, keyring: Keyring, stored: int) -> set[bytes]:
    """The ids of the points that may go early, if it counts; ``stored`` is the provider's time."""
    _demand(name == f"certificates/{digest(data).hex()}", "a certificate of another name")
    found = read_certificate(data)
    if keyring.approvers is None:
        raise Wrong("a certificate in a vault without approvers")
    count = keyring.approvers.count(approval_message(keyring.root, found.payload), found.signatures)
    _demand(count >= keyring.approvers.m, "a certificate that too few signed")
    _demand(stored <= found.request.expires, "a certificate that came too late")
    return {point_id for _, _, point_id in found.points}


def read_body(body: bytes) -> Body:
    workload, host, paths, tags, started, finished, *counts, root, problems, program = unpack(
        body, _BODY_SHAPE
    )
    return Body(
        workload,
        host,
        tuple(paths),
        tuple(tags),
        started,
        finished,
        tuple(counts),
        _split_ids(root),
        _split_ids(problems),
        program,
    )


# --- format.md, 13: coding ------------------------------------------------------------------------


def decode(coding: int, coded: bytes, raw: int) -> bytes:
    if coding == 0:
        _demand(len(coded) == raw, "raw bytes of another length")
        return coded
    _demand(coding == 1, "an unknown coding")
    try:
        said = zstandard.frame_content_size(coded)
        _demand(said == raw, "a frame of another content size")
        out = zstandard.ZstdDecompressor().decompressobj()
        data = out.decompress(coded)
    except zstandard.ZstdError as error:
        raise Wrong("no Zstandard frame") from error
    _demand(out.eof and not out.unused_data and len(data) == raw, "a frame that is not all")
    return data


# --- format.md, 14: chunking ----------------------------------------------------------------------


def cut_points(
    data: bytes, sizes: tuple[int, int, int], seed: int, gear: Sequence[int], masks: Sequence[int]
) -> list[int]:
    """The lengths of the chunks of a file's data. ``sizes`` are minimum, average and maximum."""
    lengths = []
    at = 0
    while at < len(data):
        length = _cut(data[at : at + sizes[2]], sizes, seed, gear, masks)
        lengths.append(length)
        at += length
    return lengths


def _cut(d: bytes, sizes: tuple[int, int, int], seed: int, gear: Sequence[int], masks: Sequence[int]) -> int:
    minimum, average, maximum = sizes
    word = 2**64 - 1
    bits = round_log2(average)
    small, large = masks[bits + 1], masks[bits - 1]
    n = len(d)
    if n <= minimum:
        return n
    n = min(n, maximum)
    c = min(average, n)
    h = 0
    for p in range(minimum // 2 * 2, n // 2 * 2, 2):
        mask = small if p < c // 2 * 2 else large
        h = ((h << 2) + (((gear[d[p]] << 1) ^ (seed << 1)) & word)) & word
        if h & (mask << 1) & word == 0:
            return p
        h = (h + (gear[d[p + 1]] ^ seed)) & word
        if h & mask == 0:
            return p + 1
    return n


def round_log2(value: int) -> int:
    """log2 to the nearest integer, exactly: sqrt(2) times a power of two is the border."""
    low = value.bit_length() - 1
    return low + int(value * value > 2 ** (2 * low + 1))


# --- format.md, 17: reading -----------------------------------------------------------------------


class Vault:
    """A vault in memory, opened with a kit, or with a passphrase and the vault id that a client keeps.

    Raises ``Wrong`` and ``NotOpened``.
    """

    def __init__(self, objects: Mapping[str, bytes], kit: Kit) -> None:
        self.objects = objects
        if kit.root_seed is not None:
            _demand(
                id16(_root_public(kit.root_seed)) == kit.vault_id, "a kit with the root key of another vault"
            )
        self._open_vault(kit.vault_id)
        self.opener = id16(hpke_public(kit.private))
        self._unlock(kit.private)

    def _unlock(self, private: bytes) -> None:
        if self.opener not in self.keyring.recipients:
            raise NotOpened("the keyring does not name this key")
        self._private = private
        sealed = self.keyring.recipients[self.opener].sealed_secret
        secret = hpke_open(private, sealed, b"donjon/v1/vault-secret\0" + self.vault_id)
        self.chunk_id_key = derive("donjon v1 chunk ids", secret)
        self.index_key = derive("donjon v1 index", secret)
        self.seed = int.from_bytes(derive("donjon v1 chunker seed", secret)[:8], "little") >> 1
        self.label_key = derive("donjon v1 labels", secret)

    @classmethod
    def with_passphrase(cls, objects: Mapping[str, bytes], passphrase: str, vault_id: bytes) -> Vault:
        """Opens with the first passphrase recipient of the keyring."""
        vault = cls.__new__(cls)
        vault.objects = objects
        vault._open_vault(vault_id)
        for recipient_id, recipient in vault.keyring.recipients.items():
            if recipient.kind == "passphrase":
                vault.opener = recipient_id
                vault._unlock(passphrase_private_key(recipient.extra, recipient.public, passphrase))
                return vault
        raise NotOpened("the keyring has no passphrase")

    def _get(self, name: str) -> bytes:
        if name not in self.objects:
            raise Wrong(f"{name} is missing")
        return self.objects[name]

    def _open_vault(self, vault_id: bytes) -> None:
        data = self._get("vault")
        found = parse(VAULT, data, _VAULT_SHAPE)
        self.vault_id, root = found[0], found[2]
        _demand(self.vault_id == vault_id == id16(root), "another vault than the kit's")
        check_signature(root, self.vault_id, data)
        self.chunk_sizes: tuple[int, int, int] = (found[3], found[4], found[5])
        _demand(found[3] <= found[4] <= found[5], "chunk sizes that are not in order")
        self.keyring = Keyring(root=root)
        previous = data
        while (name := f"keyring/{self.keyring.records + 1:08}") in self.objects:
            data = self.objects[name]
            record = parse(KEYRING, data, _RECORD_SHAPE)
            check_signature(root, self.vault_id, data)
            self.keyring.apply(record, digest(previous), digest(data))
            previous = data
        self.ends: dict[bytes, list[tuple[int, int, bytes]]] = {}
        self.keys = {writer: self._keys_of(writer, key) for writer, key in self.keyring.writers.items()}

    def _keys_of(self, writer: bytes, first: bytes) -> list[bytes]:
        """All keys of a writer, in their order. format.md, 27"""
        keys, before = [first], bytes(32)
        while (name := f"successions/{writer.hex()}/{len(keys):08}") in self.objects:
            data = self.objects[name]
            is_allowed = data[4:5] == bytes([ALLOWED_SUCCESSION])
            kind, shape = (
                (ALLOWED_SUCCESSION, _ALLOWED_SHAPE) if is_allowed else (SUCCESSION, _SUCCESSION_SHAPE)
            )
            of_writer, number, previous, created, public, proof = parse(kind, data, shape)
            check_signature(public if is_allowed else keys[-1], self.vault_id, data)
            _demand((of_writer, number, previous) == (writer, len(keys), before), f"{name} is another one")
            if is_allowed:
                end = self.keyring.allowed_key([writer, number, previous, public], proof, created)
                self.ends.setdefault(writer, []).append((number, *end))
            else:
                proven = writer + struct.pack("<Q", number) + previous + public
                verify(public, b"donjon/v1/succession\0" + self.vault_id + proven, proof)
            _demand(public not in keys, f"{name} names a key for the second time")
            keys.append(public)
            before = digest(data)
        return keys

    def is_cut_off(self, point: Point) -> bool:
        """Whether approvers do not count a point of a key that another took over from. format.md, 27"""
        data = self._get(f"manifests/{point.writer.hex()}/{point.sequence:08}")

        def signed_by(key: bytes) -> bool:
            try:
                check_signature(key, self.vault_id, data)
            except Wrong:
                return False
            return True

        number = next(n for n, key in enumerate(self.keys[point.writer]) if signed_by(key))
        return any(
            number < later and (point.sequence > last or (point.sequence == last and point.point_id != named))
            for later, last, named in self.ends.get(point.writer, [])
        )

    def label(self, box: bytes) -> str:
        return unbox(self.label_key, box).rstrip(b"\0").decode()

    def _check_writer(self, writer: bytes, data: bytes) -> None:
        _demand(writer in self.keys, "an unknown writer")
        by_any(self.keys[writer], lambda key: check_signature(key, self.vault_id, data))

    # Manifests

    def points(self) -> Iterator[Point]:
        """All points, writer by writer in sequence. Raises ``Wrong`` at a gap or a swap."""
        for writer in sorted(self.keyring.writers):
            prefix = f"manifests/{writer.hex()}/"
            previous = bytes(32)
            for position, name in enumerate(sorted(n for n in self.objects if n.startswith(prefix)), start=1):
                point = self._point(name, writer)
                _demand(point.sequence == position, f"a gap before {name}")
                _demand(point.previous == previous, f"{name} does not follow the one before")
                previous = point.point_id
                yield point

    def _point(self, name: str, writer: bytes) -> Point:
        data = self._get(name)
        point = read_manifest(data)
        self._check_writer(point.writer, data)
        _demand(name == f"manifests/{writer.hex()}/{point.sequence:08}", f"{name} is another manifest")
        _demand(point.writer == writer, f"{name} is of another writer")
        return point

    def body(self, point: Point) -> Body:
        key = self.session_key(point.writer, point.session)
        return read_body(unpad(unbox(derive("donjon v1 manifest", key), point.body)))

    # Sessions

    def session_key(self, writer: bytes, number: int) -> bytes:
        name = f"sessions/{writer.hex()}/{number:08}"
        data = self._get(name)
        session = parse(SESSION, data, _SESSION_SHAPE)
        self._check_writer(session[0], data)
        _demand(session[0] == writer and session[1] == number, f"{name} is another session")
        _demand(session[3] <= self.keyring.records, f"{name} knows keyring records that are hidden")
        sealed = dict(session[6]).get(self.opener) or self._later_seal(writer, number)
        info = b"donjon/v1/session-key\0" + self.vault_id + writer + struct.pack("<Q", number)
        key = hpke_open(self._private, sealed, info)
        _demand(derive("donjon v1 session key commitment", key) == session[5], f"{name} has another key")
        return key

    def _later_seal(self, writer: bytes, number: int) -> bytes:
        name = f"seals/{self.opener.hex()}/{writer.hex()}/{number:08}"
        if name not in self.objects:
            raise NotOpened(f"the session {writer.hex()} {number} is not sealed to this key")
        data = self.objects[name]
        recipient, of_writer, session, sealed = parse(SEAL, data, _SEAL_SHAPE)
        vault_root = parse(VAULT, self.objects["vault"], _VAULT_SHAPE)[2]
        check_signature(vault_root, self.vault_id, data)
        _demand((recipient, of_writer, session) == (self.opener, writer, number), f"{name} is another seal")
        return bytes(sealed)

    # Chunks

    def places_by_footers(self, writer: bytes) -> dict[bytes, list[Place]]:
        """The places of all chunks of a writer, from the packs alone."""
        places: dict[bytes, list[Place]] = {}
        for name, pack in self.objects.items():
            if name.startswith("packs/"):
                trailer = read_trailer(pack, self.vault_id, self.keys)
                _demand(name.endswith("/" + digest(pack).hex()), f"{name} is another pack")
                if trailer.writer == writer:
                    for chunk_id, found in read_footer(name, pack, trailer, self.index_key).items():
                        places.setdefault(chunk_id, []).extend(found)
        return places

    def places_by_index(self, writer: bytes) -> dict[bytes, list[Place]]:
        """The places of all chunks that the index objects of a writer tell."""
        places: dict[bytes, list[Place]] = {}
        prefix = f"index/{writer.hex()}/"
        for name in sorted(n for n in self.objects if n.startswith(prefix)):
            table = self.read_index(name)
            for chunk_id, found in read_table(table).items():
                places.setdefault(chunk_id, []).extend(found)
        return places

    def read_index(self, name: str) -> bytes:
        """The table of an index object."""
        data = self._get(name)
        writer, session, part, packs, box = parse(INDEX, data, _INDEX_SHAPE)
        self._check_writer(writer, data)
        _demand(name == f"index/{writer.hex()}/{session:08}-{part:04}", f"{name} is another index object")
        rows = unpad(unbox(index_object_key(self.index_key, writer, session, part), box))
        return rows[:16] + bytes(packs) + rows[16:]


class Reader:
    """Reads one point, with the places that index or footers tell."""

    def __init__(self, vault: Vault, point: Point, places: Mapping[bytes, list[Place]]) -> None:
        self._vault, self._point, self._places = vault, point, places
        self._keys: dict[int, bytes] = {}
        self._last: tuple[Place | None, bytes] = (None, b"")
        self.body = vault.body(point)
        #: (session, ordinal) of the packs that chunks came from
        self.used: set[tuple[int, int]] = set()

    def chunk(self, chunk_id: bytes) -> bytes:
        places = sorted(
            self._places.get(chunk_id, []), key=lambda p: (p.session, p.ordinal) not in self._point.uses
        )
        for place in places:
            try:
                data = self._frame(place)[place.offset : place.offset + place.length]
            except Wrong:
                continue
            if len(data) == place.length and keyed(self._vault.chunk_id_key, data) == chunk_id:
                self.used.add((place.session, place.ordinal))
                return data
        raise Wrong(f"chunk {chunk_id.hex()} is nowhere")

    def _frame(self, place: Place) -> bytes:
        frame = place._replace(offset=0, length=0)
        if self._last[0] != frame:
            self._last = (frame, self._open_frame(place))
        return self._last[1]

    def _open_frame(self, place: Place) -> bytes:
        pack = self._vault.objects.get(place.pack, b"")
        sealed = pack[place.frame_offset : place.frame_offset + place.sealed]
        if place.session not in self._keys:
            self._keys[place.session] = self._vault.session_key(self._point.writer, place.session)
        return decode(place.coding, unseal(self._keys[place.session], place.number, sealed), place.raw)

    def _metadata(self, chunk_id: bytes, shape: Check) -> Any:
        return unpack(self.chunk(chunk_id), shape)

    def entries(self) -> Iterator[Entry]:
        stream = _Stream()
        for root in self.body.root:
            for segment, path, count in self._metadata(root, _ROOT_SHAPE):
                names = [_component(name) for name in path.split(b"/")]
                rows = self._metadata(segment, many(_ENTRY_SHAPE))
                _demand(len(rows) == count, "a segment with another number of entries")
                _demand(rows[0][1] == names[-1] and rows[0][0] == len(names) - 1, "a segment of another path")
                first = stream.take(rows[0])
                _demand(first.path == path, "a segment of another path")
                yield first
                yield from map(stream.take, rows[1:])

    def problems(self) -> list[tuple[bytes, str]]:
        return [
            (p, r) for chunk_id in self.body.problems for p, r in self._metadata(chunk_id, _PROBLEM_SHAPE)
        ]

    def data(self, entry: Entry) -> bytes:
        """What is in a file, without its holes: chunks end to end."""
        ids = entry.chunks
        if entry.indirect:
            ids = tuple(chunk for listed in ids for chunk in _split_ids(self.chunk(listed)))
        data = b"".join(map(self.chunk, ids))
        expected = entry.size if entry.extents is None else sum(length for _, length in entry.extents)
        _demand(len(data) == expected, "a file of another size")
        return data


def listing(reader: Reader) -> list[str]:
    """Everything that a point holds as lines of text, files by the SHA-256 of their data."""
    return [
        line(entry, hashlib.sha256(reader.data(entry)).hexdigest() if entry.kind == FILE else "")
        for entry in reader.entries()
    ]


def line(entry: Entry, sha256: str) -> str:
    """One entry as text; only device, inode, status change time and chunk ids are left out."""
    parts = [
        f"{entry.path!r} {KINDS[entry.kind - 1]} {stat.filemode(entry.mode)[1:]}",
        f"{entry.uid}:{entry.gid} {entry.user}:{entry.group}",
        f"mtime {entry.mtime[0]}.{entry.mtime[1]:09}",
        f"links {entry.links}",
    ]
    if entry.kind == FILE:
        parts.append(f"size {entry.size} sha256 {sha256}")
    if entry.extents is not None:
        parts.append("extents " + ",".join(f"{offset}+{length}" for offset, length in entry.extents))
    if entry.target:
        parts.append(f"target {entry.target!r}")
    if entry.rdev:
        parts.append(f"device {entry.rdev}")
    parts += [f"attribute {name!r} {value.hex()}" for name, value in entry.attributes]
    return "  " + " | ".join(parts)


def main(arguments: Sequence[str]) -> None:
    passphrase = (
        Path(arguments[2]).read_text().removesuffix("\n").removesuffix("\r") if arguments[2:] else None
    )
    vault = Vault(read_folder(Path(arguments[0])), read_kit(Path(arguments[1]).read_text(), passphrase))
    for point in vault.points():
        reader = Reader(vault, point, vault.places_by_footers(point.writer))
        print(f"point {point.point_id.hex()} {reader.body.workload}")
        for shown in listing(reader):
            print(shown)


if __name__ == "__main__":
    main(sys.argv[1:])
