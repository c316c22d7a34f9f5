"""Fixed examples of verdicts and of an approval to use a suspect point, on which both readers agree.

``verdicts.json`` was made once, from ``docs/format.md`` with plain libraries alone, and is never made again.
Its vault and keys are those of ``evidence.json`` and ``approvals.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from donjon.codec.digest import digest
from donjon.codec.sign import SigningKey
from donjon.format import names
from donjon.format.approval import SuspectUse, hide_reason, pack_request
from donjon.format.evidence import Evidence
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.vault import VaultSecret
from donjon.format.verdict import lift_row, mark_row, read_row
from donjon.repository.approvals import read_request, read_signatures
from donjon.repository.evidence import parse_alone
from donjon.repository.vault import open_vault
from donjon.repository.verdicts import read_verdicts, standing_marks
from donjon.stores.memory import MemoryStore
from donjon.testing.clock import ManualClock
from tests import second_reader

FOLDER = Path(__file__).parents[1] / "vectors"


def _read(name: str) -> dict[str, Any]:
    found = json.loads((FOLDER / name).read_text(encoding="ascii"))
    assert isinstance(found, dict)
    return found


VECTORS, EVIDENCE, APPROVALS = _read("verdicts.json"), _read("evidence.json"), _read("approvals.json")
VAULT_ID = bytes.fromhex(VECTORS["vault_id"])
SECRET = VaultSecret(bytes.fromhex(VECTORS["vault_secret"]))
AUDITOR = SigningKey(bytes.fromhex(EVIDENCE["seeds"]["auditor"]))
ROOT = SigningKey(bytes.fromhex(EVIDENCE["seeds"]["root"]))
EACH = pytest.mark.parametrize("told", VECTORS["evidence"], ids=["mark", "lift"])


def _store(vectors: dict[str, Any], *others: dict[str, Any]) -> MemoryStore:
    """The vault and the first record of other examples, and what these have."""
    store = MemoryStore(ManualClock(1_800_000_000))
    first = [one for one in vectors["objects"] if one["name"] in {"vault", "keyring/00000001"}]
    for one in (*first, *others):
        store.put(one["name"], bytes.fromhex(one["object"]))
    return store


@EACH
def test_verdicts_have_these_bytes(told: dict[str, Any]) -> None:
    data = bytes.fromhex(told["object"])
    assert told["name"] == names.evidence(digest(data))
    ours = parse_alone(data, "vector", VAULT_ID).evidence
    said = [one for row in ours.rows if (one := read_row(row)) is not None]
    rows = second_reader.verdict(second_reader.read_evidence(data, VAULT_ID))
    assert [(one.point_id, one.lifts, one.reason) for one in said] == rows
    shown = [
        {
            "point": one.point_id.hex(),
            "lifts": one.lifts.hex() if one.lifts else None,
            "reason": SECRET.read_label(one.reason, "vector") if one.reason else "",
        }
        for one in said
    ]
    assert shown == told["says"]
    again = tuple(
        mark_row(one.point_id, bytes.fromhex(row.seen[-32:]), one.reason)
        if one.lifts is None
        else lift_row(one.point_id, one.lifts, one.reason)
        for one, row in zip(said, ours.rows, strict=True)
    )
    made = Evidence(
        ours.signer,
        ours.root_public,
        ours.certification,
        ours.created_at,
        "verdict",
        ours.program,
        ours.subject,
        again,
    )
    assert pack_object(ObjectKind.EVIDENCE, made, VAULT_ID, AUDITOR) == data


@pytest.mark.parametrize("count", [1, 2])
def test_both_readers_see_the_same_suspects(count: int) -> None:
    told = VECTORS["evidence"][:count]
    vault = open_vault(_store(EVIDENCE, *told))
    shown, missing = read_verdicts(vault, [], {})
    assert missing == []
    theirs = {digest(data): data for data in (bytes.fromhex(one["object"]) for one in told)}
    evidence = {key: second_reader.read_evidence(data, VAULT_ID) for key, data in theirs.items()}
    wanted = set(map(bytes.fromhex, VECTORS["suspect"][count - 1]))
    assert set(standing_marks(vault, shown)) == wanted
    assert second_reader.suspects(evidence, set(vault.keyring.auditors)) == wanted
    assert second_reader.suspects(evidence, set()) == set()


def test_the_request_and_its_signature_have_these_bytes() -> None:
    told, signed = VECTORS["request"], VECTORS["signature"]
    data = bytes.fromhex(told["object"])
    vault = open_vault(_store(APPROVALS, told, signed))
    request = read_request(vault, told["name"])
    writer, sequence, point, marks = told["parameters"]
    wanted = SuspectUse(
        bytes.fromhex(writer), sequence, bytes.fromhex(point), tuple(map(bytes.fromhex, marks))
    )
    assert request.parameters == wanted
    assert pack_request(request.content, VAULT_ID, ROOT) == data
    assert SECRET.read_label(request.content.reason, "vector") == told["reason"]
    assert len(hide_reason(SECRET, told["reason"])) == len(request.content.reason)
    assert [
        names.approver_signature(request.request_id, who) for who in read_signatures(vault, request, [])
    ] == [signed["name"]]
    theirs = second_reader.read_request(request.payload)
    assert theirs.operation == 5
    assert theirs.parameters == [wanted.writer, wanted.sequence, wanted.point_id, list(wanted.marks)]
