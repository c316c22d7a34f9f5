"""Fixed examples of ``docs/format.md``: Donjon and the second reader agree with each of them.

``format.json`` was made once, from counting bytes, from BLAKE3 of a letter in extended output, and from
the small golden vault. It is never made again: a file that is made from the code proves nothing.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from donjon.codec.chunk import Chunker, Sizes
from donjon.codec.digest import chunk_id, digest, short_id
from donjon.codec.hpke import PrivateKey
from donjon.codec.pad import padme
from donjon.codec.seal import Sealer
from donjon.core.errors import IntegrityFailure
from donjon.format import names
from donjon.format.entries import Entry
from donjon.format.manifest import Manifest, PointBody, open_body
from donjon.format.objects import ObjectKind, pad, parse_object, unpad, verify_object
from donjon.format.pack import (
    TRAILER_BYTES,
    footer_key,
    footer_length,
    open_footer,
    parse_trailer,
    verify_trailer,
)
from donjon.format.segments import (
    SegmentRecord,
    decode_problems,
    decode_root,
    decode_segment,
    encode_problems,
    encode_root,
    encode_segment,
    ends_segment,
)
from donjon.format.session import SealObject, SessionObject, commitment, manifest_key
from donjon.format.table import IndexObject, Table, build_table, index_object_key, open_table
from donjon.format.vault import KeyringRecord, VaultObject, VaultSecret, session_info
from tests import second_reader

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "format.json").read_text(encoding="ascii")
)
KEYS = VECTORS["keys"]
OBJECTS = VECTORS["objects"]["list"]
VAULT_ID = bytes.fromhex(VECTORS["objects"]["vault_id"])
SESSION_NUMBER: int = VECTORS["opened"]["session"]
OPENED = {name: bytes.fromhex(value) for name, value in VECTORS["opened"].items() if isinstance(value, str)}
KINDS: dict[str, tuple[ObjectKind, type[msgspec.Struct]]] = {
    "vault": (ObjectKind.VAULT, VaultObject),
    "keyring": (ObjectKind.KEYRING, KeyringRecord),
    "sessions": (ObjectKind.SESSION, SessionObject),
    "index": (ObjectKind.INDEX, IndexObject),
    "manifests": (ObjectKind.MANIFEST, Manifest),
    "seals": (ObjectKind.SEAL, SealObject),
}


def key(name: str) -> bytes:
    return bytes.fromhex(KEYS[name])


def value_of(told: Any) -> Any:
    """JSON back to values: bytes are objects with ``hex``."""
    if isinstance(told, dict):
        return bytes.fromhex(told["hex"])
    return [value_of(item) for item in told] if isinstance(told, list) else told


def fields_of(value: object) -> Any:
    """A payload as MessagePack tells it, without the names of its fields."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


def object_of(folder: str) -> dict[str, Any]:
    return next(row for row in OBJECTS if row["name"].startswith(folder))


# --- keys and sealing -----------------------------------------------------------------------------


def test_keys_are_derived() -> None:
    secret, writer = VaultSecret(key("vault_secret")), key("writer")
    assert secret.chunk_id_key == key("chunk_id_key")
    assert secret.index_key == key("index_key")
    assert secret.chunker_seed == KEYS["chunker_seed"]
    place = (key("index_key"), writer, KEYS["session"])
    assert footer_key(*place, KEYS["ordinal"]) == key("footer_key")
    assert second_reader.footer_key(*place, KEYS["ordinal"]) == key("footer_key")
    assert index_object_key(*place, KEYS["part"]) == key("index_object_key")
    assert second_reader.index_object_key(*place, KEYS["part"]) == key("index_object_key")
    assert manifest_key(key("session_key")) == key("manifest_key")
    assert commitment(key("session_key")) == key("commitment")
    assert short_id(key("public")) == second_reader.id16(key("public")) == key("id16")
    for context, name in (("chunk ids", "chunk_id_key"), ("index", "index_key"), ("labels", "label_key")):
        assert second_reader.derive(f"donjon v1 {context}", key("vault_secret")) == key(name)


def test_chunk_ids() -> None:
    for row in VECTORS["chunk_ids"]:
        data = bytes.fromhex(row["data"])
        assert chunk_id(key("chunk_id_key"), data).hex() == row["id"]
        assert second_reader.keyed(key("chunk_id_key"), data).hex() == row["id"]


def test_padded_sizes() -> None:
    for size, padded in VECTORS["padme"]:
        assert padme(size) == second_reader.padme(size) == padded


def test_padded_texts() -> None:
    for row in VECTORS["padded"]:
        plain, padded = bytes.fromhex(row["plain"]), bytes.fromhex(row["padded"])
        assert pad(plain, row["overhead"]) == padded
        assert unpad(padded, "vector") == second_reader.unpad(padded) == plain


def test_frames_are_sealed_with_their_number_as_nonce() -> None:
    for row in VECTORS["frames"]:
        sealer, plain, sealed = Sealer(bytes.fromhex(row["key"])), row["plain"], bytes.fromhex(row["sealed"])
        assert sealer.seal(row["number"], bytes.fromhex(plain)) == sealed
        assert sealer.open(row["number"], sealed, "vector").hex() == plain
        opened = second_reader.unseal(bytes.fromhex(row["key"]), row["number"], sealed)
        assert opened.hex() == plain
        with pytest.raises(IntegrityFailure):
            sealer.open(row["number"] ^ 1, sealed, "vector")


def test_boxes_and_labels() -> None:
    row = VECTORS["box"]
    box, plain = bytes.fromhex(row["box"]), bytes.fromhex(row["plain"])
    assert box[:12].hex() == row["nonce"]
    assert Sealer(bytes.fromhex(row["key"])).open_box(box, "vector") == plain
    assert second_reader.unbox(bytes.fromhex(row["key"]), box) == plain
    label = VECTORS["label"]
    secret, nonce = VaultSecret(key("vault_secret")), int.from_bytes(box[:12], "little")
    assert secret.hide_label(label["text"], nonce).hex() == label["box"]
    assert secret.read_label(bytes.fromhex(label["box"]), "vector") == label["text"]


def test_a_sealed_session_key_opens() -> None:
    private, sealed, session_key = OPENED["private"], OPENED["sealed"], OPENED["session_key"]
    info = session_info(VAULT_ID, OPENED["writer"], SESSION_NUMBER)
    assert PrivateKey.from_bytes(private).open(sealed, info) == session_key
    assert second_reader.hpke_open(private, sealed, info) == session_key
    assert commitment(session_key) == value_of(object_of("sessions/")["fields"])[5]


# --- chunking -------------------------------------------------------------------------------------

GEAR = [int(word, 16) for word in VECTORS["chunker"]["gear"]]
MASKS = [int(word, 16) for word in VECTORS["chunker"]["masks"]]


@pytest.mark.parametrize("row", VECTORS["chunker"]["cases"], ids=lambda row: f"{row['bytes']}-{row['seed']}")
def test_data_is_cut_where_the_vectors_say(row: dict[str, Any]) -> None:
    data = blake3(row["material"].encode()).digest(length=row["bytes"])
    check_cuts(data, row)


def test_zeros_are_cut_at_the_maximum() -> None:
    row = VECTORS["chunker"]["zeros"]
    assert max(row["lengths"]) == row["sizes"][2]
    check_cuts(bytes(row["bytes"]), row)


def check_cuts(data: bytes, row: dict[str, Any]) -> None:
    minimum, average, maximum = row["sizes"]
    assert sum(row["lengths"]) == len(data)
    assert (
        Chunker(Sizes(minimum, average, maximum), row["seed"]).cut(memoryview(data), final=True)
        == row["lengths"]
    )
    found = second_reader.cut_points(data, (minimum, average, maximum), row["seed"], GEAR, MASKS)
    assert found == row["lengths"]


def test_the_gear_table_is_md5_of_repeated_bytes() -> None:
    for value, gear in enumerate(GEAR):
        word = hashlib.md5(bytes([value]) * 64, usedforsecurity=False).digest()[:8]
        assert int.from_bytes(word, "big") == gear


# --- objects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", OBJECTS, ids=[row["name"][:16] for row in OBJECTS])
def test_signed_objects(row: dict[str, Any]) -> None:
    kind, payload = KINDS[row["name"].partition("/")[0]]
    data, fields = bytes.fromhex(row["object"]), value_of(row["fields"])
    root = bytes.fromhex(VECTORS["objects"]["root_public"])
    writer = value_of(object_of("keyring/00000002")["fields"])[7]
    public = writer if kind in {ObjectKind.SESSION, ObjectKind.INDEX, ObjectKind.MANIFEST} else root
    parsed = parse_object(data, kind, payload, row["name"])
    verify_object(data, VAULT_ID, public, row["name"])
    assert fields_of(parsed) == fields
    assert msgspec.msgpack.encode(parsed) == data[12:-64]
    shape = second_reader.row(*([lambda value: value] * len(fields)))
    assert second_reader.parse(int(kind), data, shape) == fields
    second_reader.check_signature(public, VAULT_ID, data)


def test_the_body_of_a_manifest() -> None:
    fields = value_of(VECTORS["body"]["fields"])
    sealed = value_of(object_of("manifests/")["fields"])[7]
    body = open_body(OPENED["session_key"], sealed, "vector")
    assert fields_of(body) == fields
    assert body == msgspec.convert(fields, PointBody)
    seen = second_reader.read_body(msgspec.msgpack.encode(fields))
    assert (seen.workload, seen.host, list(seen.paths), list(seen.counts)) == (
        fields[0],
        fields[1],
        fields[2],
        fields[6:16],
    )


def test_an_index_object_opens_to_its_table() -> None:
    row, table = VECTORS["table"], bytes.fromhex(VECTORS["table"]["table"])
    index = msgspec.convert(value_of(object_of("index/")["fields"]), IndexObject)
    assert open_table(index, OPENED["index_key"], row["name"]) == table
    places = second_reader.read_table(table)
    assert sorted(places) == [bytes.fromhex(chunk["id"]) for chunk in row["chunks"]]
    for chunk in row["chunks"]:
        found = Table(table, "vector").find(bytes.fromhex(chunk["id"]))
        assert found is not None
        mine = [names.pack(found.pack.name), found.pack.session, found.pack.ordinal, *found[1:]]
        assert [mine] == chunk["places"]
        assert [list(place) for place in places[bytes.fromhex(chunk["id"])]] == chunk["places"]


@pytest.mark.parametrize("row", VECTORS["packs"], ids=["first", "second"])
def test_packs(row: dict[str, Any]) -> None:
    pack, name = bytes.fromhex(row["pack"]), row["name"]
    writer = value_of(object_of("keyring/00000002")["fields"])[7]
    assert names.pack(digest(pack)) == name
    trailer = parse_trailer(pack[-TRAILER_BYTES:], name)
    verify_trailer(trailer, VAULT_ID, writer, name)
    assert (trailer.kind, trailer.ordinal) == (row["kind"], row["ordinal"])
    footer = footer_key(OPENED["index_key"], trailer.writer, trailer.session, trailer.ordinal)
    body_bytes = len(pack) - TRAILER_BYTES - footer_length(footer, trailer, len(pack), name)
    frames = open_footer(footer, pack[body_bytes:-TRAILER_BYTES], body_bytes, name)
    seen = second_reader.read_footer(
        name,
        pack,
        second_reader.read_trailer(pack, VAULT_ID, {trailer.writer: [writer]}),
        OPENED["index_key"],
    )
    assert [chunk for frame in frames for chunk, _ in frame.chunks] == list(seen)
    assert padme(len(pack)) == len(pack)
    for chunk in row["chunks"]:
        (place,) = seen[bytes.fromhex(chunk["id"])]
        assert list(place[3:]) == chunk["place"]
        sealed = pack[place.frame_offset : place.frame_offset + place.sealed]
        plain = Sealer(OPENED["session_key"]).open(place.number, sealed, name)
        raw = second_reader.decode(place.coding, plain, place.raw)
        data = raw[place.offset : place.offset + place.length]
        assert data.hex() == chunk["data"]
        assert chunk_id(OPENED["chunk_id_key"], data).hex() == chunk["id"]


def test_the_table_follows_from_the_footers() -> None:
    """The index is derived: what the packs say makes the same bytes."""
    table = Table(bytes.fromhex(VECTORS["table"]["table"]), "vector")
    packs = {row["name"]: bytes.fromhex(row["pack"]) for row in VECTORS["packs"]}
    rebuilt = []
    for found in table.packs():
        name = names.pack(found.name)
        trailer = parse_trailer(packs[name][-TRAILER_BYTES:], name)
        footer = footer_key(OPENED["index_key"], trailer.writer, trailer.session, trailer.ordinal)
        size = footer_length(footer, trailer, found.size_bytes, name)
        body_bytes = found.size_bytes - TRAILER_BYTES - size
        rebuilt.append((found, open_footer(footer, packs[name][body_bytes:-TRAILER_BYTES], body_bytes, name)))
    assert build_table(rebuilt).hex() == VECTORS["table"]["table"]


# --- metadata -------------------------------------------------------------------------------------


def test_segments_and_roots() -> None:
    row = VECTORS["metadata"]
    segment, root = bytes.fromhex(row["segment"]), bytes.fromhex(row["root"])
    entries = decode_segment(segment, "vector")
    assert fields_of(entries) == value_of(row["entries"])
    assert entries == msgspec.convert(value_of(row["entries"]), list[Entry])
    assert encode_segment(entries) == segment
    records = decode_root(root, "vector")
    assert records == msgspec.convert(value_of(row["records"]), list[SegmentRecord])
    assert list(encode_root(records)) == [root]
    assert records[0].chunk == chunk_id(OPENED["chunk_id_key"], segment)
    problems = decode_problems(bytes.fromhex(row["problems"]), "vector")
    assert [[problem.path, problem.reason] for problem in problems] == [value_of(row["problem"])]
    assert list(encode_problems(problems)) == [bytes.fromhex(row["problems"])]


def test_segments_end_where_names_say() -> None:
    ends = [
        name
        for name in (f"n{number}" for number in range(3000))
        if ends_segment(Entry(0, name.encode(), 1), 1, 100)
    ]
    assert ends == VECTORS["segment_ends"]


def test_segments_end_by_number_and_weight() -> None:
    entry = Entry(0, b"a", 1)
    assert not ends_segment(entry, 4095, (1 << 20) - 1)
    assert ends_segment(entry, 4096, 0)
    assert ends_segment(entry, 1, 1 << 20)


def test_the_trailer_has_the_layout_of_the_document() -> None:
    pack = bytes.fromhex(VECTORS["packs"][0]["pack"])
    magic, version, kind, zero, vault = struct.unpack_from("<4sBBH16s", pack, len(pack) - 188)
    assert (magic, version, zero, vault) == (b"DNJP", 1, 0, VAULT_ID)
    assert kind == VECTORS["packs"][0]["kind"]
    assert pack[-96:-64] == digest(pack[:-188])
