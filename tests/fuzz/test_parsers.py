"""No parser of what comes from a store or a file raises anything but our errors, or takes much memory.

``make fuzz`` runs this for a minute each.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from donjon.codec.compress import decompress
from donjon.codec.seal import Sealer
from donjon.codec.sign import SigningKey
from donjon.core.errors import DonjonError, IntegrityFailure, KeyNotAvailable, UsageError
from donjon.format import names
from donjon.format.approval import ApprovalRequest, SignaturePayload
from donjon.format.certificate import CertificatePayload
from donjon.format.checkpoint import Checkpoint
from donjon.format.epoch import Epoch
from donjon.format.manifest import Manifest, Use, open_body
from donjon.format.objects import ObjectKind, pack_object, pad, parse_object
from donjon.format.pack import (
    TRAILER_BYTES,
    Trailer,
    footer_key,
    footer_length,
    open_footer,
    parse_trailer,
)
from donjon.format.segments import Order, decode_problems, decode_root, decode_segment
from donjon.format.session import SealObject, SessionObject, manifest_key
from donjon.format.succession import AllowedSuccession, Succession, make_succession
from donjon.format.table import IndexObject, Table, index_object_key, merge_tables, open_table, pack_rows
from donjon.format.vault import KeyringRecord, VaultObject, secret_info
from donjon.keys import passphrase
from donjon.keys.address import service_recipient
from donjon.keys.azure_keyvault import AzureKey, AzureKeyVaultKey
from donjon.keys.base import SERVICES, Recipient, service_id
from donjon.keys.info import bound, unbound
from donjon.keys.recovery import read_kit
from donjon.keys.services import parse_address, read_address
from donjon.repository.credential import WriterCredential
from donjon.repository.keyring import Keyring
from donjon.repository.rebuild import pack_digest
from donjon.repository.tree import split_ids
from donjon.sources.selection import compile_patterns
from tests import second_reader
from tests.fuzz.approvals import approvals
from tests.fuzz.fuzzing import changed_bytes, changed_text, changed_values, fuzz
from tests.golden import reading
from tests.golden.reading import Golden

WHAT = "hostile"


@functools.cache
def golden() -> Golden:
    return reading.load("v1-large")


@functools.cache
def checkpoints() -> list[bytes]:
    file = Path(__file__).parents[1] / "vectors" / "checkpoint.json"
    rows = json.loads(file.read_text(encoding="ascii"))["objects"]
    return [bytes.fromhex(row["object"]) for row in rows if row["name"].startswith("checkpoints/")]


@functools.cache
def opened() -> second_reader.Vault:
    return second_reader.Vault(golden().objects, second_reader.read_kit(golden().kits[0]))


def epoch() -> bytes:
    content = Epoch(bytes(16), 1, 2, 3, (Use(bytes(16), 1, b"\5"), Use(bytes(16), 2, b"\1")), ("a", "b"))
    return pack_object(ObjectKind.EPOCH, content, bytes(16), SigningKey.generate())


def succession() -> bytes:
    key = SigningKey.generate()
    content = make_succession(bytes(16), bytes(16), 1, bytes(32), 2, key)
    return pack_object(ObjectKind.SUCCESSION, content, bytes(16), SigningKey.generate())


def allowed_succession() -> bytes:
    key = SigningKey.generate()
    content = AllowedSuccession(bytes(16), 1, bytes(32), 2, key.public, b"\x92\xc4\x00\x90")
    return pack_object(ObjectKind.ALLOWED_SUCCESSION, content, bytes(16), key)


def under(folder: str) -> list[bytes]:
    """Objects of one kind; the golden vault is older than some kinds are."""
    made = approvals() if folder in {"approvals/", "signatures", "certificates/"} else {}
    asked = {name: data for name, data in made.items() if name.startswith("approvals/")}
    match folder:
        case "checkpoints/":
            found = checkpoints()
        case "epochs/":
            found = [epoch()]
        case "successions/":
            found = [succession()]
        case "allowed":
            found = [allowed_succession()]
        case "approvals/":
            found = [data for name, data in asked.items() if name.endswith("request")]
        case "signatures":
            found = [data for name, data in asked.items() if not name.endswith("request")]
        case "certificates/":
            found = [data for name, data in made.items() if name.startswith(folder)]
        case _:
            found = [data for name, data in golden().objects.items() if name.startswith(folder)]
    return found


def payloads(folder: str) -> list[Any]:
    """What is in the signed objects of a folder, as MessagePack tells it."""
    return [msgspec.msgpack.decode(data[12:-64]) for data in under(folder)]


def envelope(kind: int, payload: bytes) -> bytes:
    """An object of version 1 whose signature is none."""
    return struct.pack("<4sBBHI", b"DNJN", kind, 1, 0, len(payload)) + payload + bytes(64)


KINDS: list[tuple[ObjectKind, type[msgspec.Struct], str]] = [
    (ObjectKind.VAULT, VaultObject, "vault"),
    (ObjectKind.KEYRING, KeyringRecord, "keyring/"),
    (ObjectKind.SESSION, SessionObject, "sessions/"),
    (ObjectKind.INDEX, IndexObject, "index/"),
    (ObjectKind.MANIFEST, Manifest, "manifests/"),
    (ObjectKind.SEAL, SealObject, "seals/"),
    (ObjectKind.CHECKPOINT, Checkpoint, "checkpoints/"),
    (ObjectKind.EPOCH, Epoch, "epochs/"),
    (ObjectKind.SUCCESSION, Succession, "successions/"),
    (ObjectKind.ALLOWED_SUCCESSION, AllowedSuccession, "allowed"),
    (ObjectKind.CERTIFICATE, CertificatePayload, "certificates/"),
    (ObjectKind.APPROVAL_REQUEST, ApprovalRequest, "approvals/"),
    (ObjectKind.APPROVER_SIGNATURE, SignaturePayload, "signatures"),
]
EACH_KIND = pytest.mark.parametrize(("kind", "payload", "folder"), KINDS, ids=[k[0].name for k in KINDS])


# Python warns of patterns that a later version may read otherwise; what they match is not at stake here.
pytestmark = pytest.mark.filterwarnings("ignore:Possible:FutureWarning")


@EACH_KIND
def test_envelopes(kind: ObjectKind, payload: type[msgspec.Struct], folder: str) -> None:
    assert fuzz(lambda data: parse_object(data, kind, payload, WHAT), changed_bytes(under(folder)))


@EACH_KIND
def test_payloads(kind: ObjectKind, payload: type[msgspec.Struct], folder: str) -> None:
    def parse(data: bytes) -> None:
        found = parse_object(envelope(kind, data), kind, payload, WHAT)
        if isinstance(found, VaultObject):
            found.check()
        elif isinstance(found, Manifest):
            assert all(list(use.ordinals()) == sorted(set(use.ordinals())) for use in found.uses)
        elif isinstance(found, SessionObject):
            assert all(1 <= len(sealed) <= 2048 for sealed in dict(found.seals).values())
        elif isinstance(found, Checkpoint):
            assert all(0 < row.sequence <= chain.last for chain in found.chains for row in chain.rows())
        elif isinstance(found, Epoch):
            assert all(ordinal >= 0 for use in found.packs for ordinal in use.ordinals())
        elif isinstance(found, IndexObject):
            assert all(len(row.name) == 32 for row in pack_rows(found.packs, WHAT))

    assert fuzz(parse, changed_values(payloads(folder)))


def test_the_keyring() -> None:
    """Records that the root key signed: whatever they say, the keyring stays one that can be used."""
    root = SigningKey.generate()
    vault = VaultObject(bytes(16), 0, root.public, 64, 256, 1024, 0, 1)

    def parse(data: bytes) -> None:
        keyring = Keyring(vault, bytes(32))
        for number, payload in enumerate(payloads("keyring/"), start=1):
            record = msgspec.convert([number, keyring.head, *payload[2:]], KeyringRecord)
            keyring.apply(pack_object(ObjectKind.KEYRING, record, vault.vault_id, root), WHAT)
        try:
            hostile = msgspec.convert(msgspec.msgpack.decode(data), KeyringRecord)
            hostile = msgspec.structs.replace(hostile, number=keyring.number + 1, previous=keyring.head)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return
        keyring.apply(pack_object(ObjectKind.KEYRING, hostile, vault.vault_id, root), WHAT)
        assert 1 <= len(keyring.members) <= 256

    assert fuzz(parse, changed_values(payloads("keyring/")))


def ends(body: second_reader.Body) -> list[Any]:
    return [b"".join(body.root), b"".join(body.problems), body.program]


def test_bodies_of_manifests() -> None:
    key = bytes(32)
    bodies = [opened().body(point) for point in opened().points()]
    seeds = [
        [b.workload, b.host, list(b.paths), list(b.tags), b.started, b.finished, *b.counts, *ends(b)]
        for b in bodies
    ]

    def parse(data: bytes) -> None:
        body = open_body(key, Sealer(manifest_key(key)).box(pad(data, 28)), WHAT)
        assert all(len(chunk) == 32 for chunk in split_ids(body.roots) + split_ids(body.problems))

    assert fuzz(parse, changed_values(seeds))


def test_padding() -> None:
    key = bytes(32)

    def parse(data: bytes) -> None:
        open_body(key, Sealer(manifest_key(key)).box(data), WHAT)

    assert fuzz(parse, changed_bytes([pad(b"text", 28), pad(b"", 28)]))


def test_trailers_of_packs() -> None:
    def parse(data: bytes) -> None:
        trailer = parse_trailer(data, WHAT)
        footer_length(bytes(32), trailer, 1000, WHAT)

    assert fuzz(parse, changed_bytes([data[-TRAILER_BYTES:] for data in under("packs/")]))


def test_lengths_of_footers() -> None:
    def parse(data: bytes) -> None:
        box = Sealer(bytes(32)).box(data[:8].ljust(8, b"\0"))
        trailer = Trailer(1, bytes(16), bytes(16), 1, 0, box, bytes(32), bytes(64))
        assert 36 <= footer_length(bytes(32), trailer, 1000, WHAT) <= 1000 - TRAILER_BYTES

    assert fuzz(parse, changed_bytes([struct.pack("<Q", 500)]))


def footers() -> list[tuple[bytes, int]]:
    """The rows of all packs, opened, and how many bytes of frames they are about."""
    vault, found = opened(), []
    for pack in under("packs/"):
        trailer = second_reader.read_trailer(pack, vault.vault_id, vault.keys)
        key = footer_key(vault.index_key, trailer.writer, trailer.session, trailer.ordinal)
        (size,) = struct.unpack("<Q", second_reader.unbox(key, trailer.sealed_length))
        frames_bytes = len(pack) - TRAILER_BYTES - size
        found.append((second_reader.unbox(key, pack[frames_bytes:-TRAILER_BYTES]), frames_bytes))
    return found


def test_footers_of_packs() -> None:
    rows, totals = zip(*footers(), strict=True)

    def parse(data: bytes) -> None:
        for body_bytes in {0, *totals}:
            try:
                frames = open_footer(bytes(32), Sealer(bytes(32)).box(data), body_bytes, WHAT)
            except IntegrityFailure:
                continue
            assert sum(frame.sealed_bytes for frame in frames) == body_bytes

    assert fuzz(parse, changed_bytes(rows))


def test_index_tables() -> None:
    """Also tables that are out of order, or whose rows point anywhere."""
    vault = opened()
    tables = [vault.read_index(name) for name in golden().objects if name.startswith("index/")]
    ids = sorted({chunk for table in tables for chunk, *_ in Table(table, WHAT)})
    wanted = [*ids[:20], bytes(32), b"\xff" * 32]

    def parse(data: bytes) -> None:
        table = Table(data, WHAT)
        merged = Table(b"".join(merge_tables([table, table])), WHAT)
        for chunk in [*wanted, *(row[0] for row in list(table)[:20])]:
            places = list(table.find_all(chunk))
            for place in places:
                assert place.offset + place.length <= place.frame_raw_bytes <= 5 << 20
                assert place.frame_offset + place.frame_sealed_bytes <= place.pack.size_bytes
            assert (table.find(chunk) is None) == (places == [])
            assert {place.pack for place in places} <= set(table.find_packs(chunk))
            assert merged.chunk_count == 2 * table.chunk_count

    assert fuzz(parse, changed_bytes(tables))


def test_boxes_of_index_objects() -> None:
    vault = opened()
    name = next(name for name in golden().objects if name.startswith("index/"))
    table = vault.read_index(name)
    packs = Table(table, WHAT).pack_part

    def parse(data: bytes) -> None:
        key = index_object_key(bytes(32), bytes(16), 1, 0)
        index = IndexObject(bytes(16), 1, 0, bytes(packs), Sealer(key).box(data))
        open_table(index, bytes(32), WHAT)

    assert fuzz(parse, changed_bytes([pad(Table(table, WHAT).sealed_part, 28)]))


@functools.cache
def metadata() -> tuple[list[Any], list[Any], list[Any]]:
    """Segments, root chunks and chunks of problems."""
    vault = opened()
    segments, roots, problems = [], [], []
    for point in vault.points():
        reader = second_reader.Reader(vault, point, vault.places_by_footers(point.writer))
        problems += [msgspec.msgpack.decode(reader.chunk(chunk)) for chunk in reader.body.problems]
        for root in reader.body.root:
            roots.append(msgspec.msgpack.decode(reader.chunk(root)))
            segments += [msgspec.msgpack.decode(reader.chunk(record[0])) for record in roots[-1]]
    return segments, roots, problems


def test_segments() -> None:
    """What comes out are names that stay below the root, in order."""

    def parse(data: bytes) -> None:
        order, last = Order(WHAT), b""
        for entry in decode_segment(data, WHAT):
            path = order.path(entry)
            parts = path.split(b"/")
            assert not {b"", b".", b".."} & set(parts)
            assert b"\0" not in path
            assert len(parts) <= 4096
            assert path.replace(b"/", b"\0") > last.replace(b"/", b"\0")
            assert entry.size >= 0
            last = path

    assert fuzz(parse, changed_values(metadata()[0]))


def test_roots() -> None:
    def parse(data: bytes) -> None:
        for record in decode_root(data, WHAT):
            assert not {b"", b".", b".."} & set(record.first_path.split(b"/"))
            assert len(record.chunk) == 32

    assert fuzz(parse, changed_values(metadata()[1]))


def test_problems() -> None:
    assert fuzz(lambda data: decode_problems(data, WHAT), changed_values(metadata()[2]))


def test_compressed_frames() -> None:
    import zstandard

    plain = [b"text " * 50, os.urandom(100), bytes(1 << 20)]
    coded = [zstandard.ZstdCompressor().compress(data) for data in plain]

    def parse(data: bytes) -> None:
        for coding in (0, 1, 2):
            for raw in (0, 250, 1 << 20):
                try:
                    assert len(decompress(coding, data, raw, WHAT)) == raw
                except IntegrityFailure:
                    continue

    assert fuzz(parse, changed_bytes(coded))


def test_names_of_packs() -> None:
    def parse(name: str) -> None:
        assert names.pack(pack_digest(name)) == name

    assert fuzz(parse, changed_text([name for name in golden().objects if name.startswith("packs/")]))


# --- what people hand over -----------------------------------------------------------------------


def ask_nobody() -> str:
    raise KeyNotAvailable("a kit wants its passphrase")


def test_kits() -> None:
    seeds = [*golden().kits, golden().kits[0].replace("\n", "\r\n"), "DONJON-KIT:1:AEAA"]

    def parse(text: str) -> None:
        try:
            kit = read_kit(text, ask_nobody)
        except DonjonError:
            return
        assert kit.opening_key in {golden().kit(0).opening_key, golden().kit(1).opening_key}

    assert fuzz(parse, changed_text(seeds))


def test_passphrase_recipients() -> None:
    """Only up to the bounds of the cost: nothing is allocated before they are checked."""
    extras = [payload[8] for payload in payloads("keyring/") if len(payload) > 8 and payload[8]]
    seeds = [msgspec.msgpack.decode(extra) for extra in extras]

    def parse(data: bytes) -> None:
        argon, sealed = passphrase._parse(data, WHAT)
        assert argon.cost.memory_kib <= 1 << 20
        assert argon.cost.passes <= 16
        assert argon.cost.lanes <= 16
        assert len(sealed) == 112

    assert fuzz(parse, changed_values(seeds))


ADDRESSES = [
    [1, "arn:aws:kms:eu-west-1:111122223333:key/mrk-1234"],
    [1, "https://name.vault.azure.net/keys/key"],
    [1, "projects/p/locations/l/keyRings/r/cryptoKeys/k"],
    [1, "https://bao.example:8200", "transit", "key"],
    [1, "token", "label"],
]


def test_addresses_of_key_services() -> None:
    """What can be read can be shown, and written again as the same."""

    def parse(data: bytes) -> None:
        for kind in SERVICES:
            with contextlib.suppress(IntegrityFailure):
                address = read_address(Recipient(service_id(kind, data), kind, "", b"", 1, data))
                assert address.uri.isprintable()
                assert parse_address(address.uri).identity == address.identity

    assert fuzz(parse, changed_values(ADDRESSES))


def test_addresses_that_people_write() -> None:
    def parse(rest: str) -> None:
        for kind in SERVICES:
            with contextlib.suppress(UsageError):
                address = parse_address(f"{kind}:{rest}")
                assert read_address(service_recipient(address, "k", 1)) == address

    uris = ["token=t;object=k%20", *("/".join(map(str, fields[1:])) for fields in ADDRESSES)]
    assert fuzz(parse, changed_text(uris))


def test_seals_of_key_services() -> None:
    """Those that Donjon takes apart itself; the rest is the service's own."""
    key = service_recipient(AzureKey("https://name.vault.azure.net/keys/key"), "k", 1)
    info = secret_info(bytes(16))

    def parse(data: bytes) -> None:
        with contextlib.suppress(ZeroDivisionError):  # it was taken apart, and the service would be asked
            AzureKeyVaultKey(key, lambda: 1 // 0).open(data, info)
        unbound(data, info, WHAT)

    seal = ["RSA-OAEP-256", "0" * 32, bytes(256)]
    assert fuzz(parse, changed_values([seal]))
    assert fuzz(lambda data: unbound(data, info, WHAT), changed_bytes([bound(bytes(32), info)]))


def test_writer_credentials(tmp_path: Path) -> None:
    credential = WriterCredential(
        vault_id=bytes(16),
        url="memory:",
        name="host",
        root_public=bytes(32),
        seed=bytes(32),
        secret=bytes(32),
    )
    credential.write(tmp_path / "valid")
    path = tmp_path / "hostile"

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        assert len(WriterCredential.read(path).root_public) == 32

    assert fuzz(parse, changed_bytes([(tmp_path / "valid").read_bytes()]))


def test_exclude_patterns() -> None:
    seeds = [
        "*.o",
        "/srv/**/cache/",
        "!keep[a-z]?",
        "a/**/b",
        "\\#x",
        "[!a]*",
        "**/",
        "[z-a]",
        "a[",
        "[[:alpha:]]",
    ]

    def parse(line: str) -> None:
        matches = compile_patterns((line[:40], "*.tmp"))
        assert matches is not None
        assert matches(b"/srv/x.tmp", False) in {True, False}
        matches(b"/\xff\n/a\x00", True)

    assert fuzz(parse, changed_text(seeds))
