"""Where facts come from: rows of evidence, addresses of keys and vaults, what a plan promises."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from donjon.app.evidence_rows import read_check, read_restore, restore_row, verify_rows
from donjon.app.status.plan_facts import medium_of, production_storage, promised_s, storage_of
from donjon.app.status.snapshot_facts import snapshot_copies
from donjon.app.status.vault_facts import VaultLook, key_of
from donjon.format.evidence import Evidence, EvidenceRow
from donjon.keys.address import service_recipient
from donjon.keys.base import Recipient
from donjon.keys.services import parse_address
from donjon.plan.copies import Check, Depth, Medium
from donjon.plan.model import Plan
from donjon.plan.retention import Policy
from donjon.plan.workloads import Bucket, Tree
from donjon.repository.check import Finding, Structure
from donjon.repository.evidence import SignedEvidence, Standing
from donjon.repository.verify import Report
from tests.approving import Council

DAY = 86_400


def signed(rows: list[EvidenceRow]) -> SignedEvidence:
    evidence = Evidence(b"s" * 16, b"r" * 32, b"", 1_800_000_000, "verify", "donjon", "place", tuple(rows))
    return SignedEvidence(evidence, b"", b"\xab" * 32, "", Standing.COUNTS)


def check(report: Report, percent: float, *, with_key: bool) -> Check:
    found = read_check(signed(verify_rows(report, percent, with_key=with_key)), 7, by_writer=False)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("percent", "with_key", "depth"),
    [
        (0, False, Depth.STRUCTURE),
        (0, True, Depth.METADATA),
        (2.5, True, Depth.DATA),
        (1e-5, True, Depth.DATA),
    ],
)
def test_a_verification_is_read_as_it_was_written(percent: float, with_key: bool, depth: Depth) -> None:
    found = check(Report(Structure(objects=5)), percent, with_key=with_key)
    assert (found.depth, found.data_percent, found.passed) == (depth, percent, True)
    assert (found.at, found.source) == (7, "evidence abababababab")


def test_what_is_wrong_is_told_without_names_of_files() -> None:
    finding = Finding(
        "damaged", "manifests/aa/1", "the data of b'payroll.xls' is in no pack", ("ff",), "Do it"
    )
    rows = verify_rows(Report(Structure(), findings=[finding] * 300), 1, with_key=True)
    assert b"payroll" not in msgspec.json.encode(rows)
    assert len(rows) == 103
    found = read_check(signed(rows), 7, by_writer=True)
    assert found is not None
    assert (found.passed, found.by_writer) == (False, True)


def test_other_evidence_is_no_verification() -> None:
    assert read_check(signed([restore_row(b"p" * 32, 1.0, 5, whole=True)]), 7, by_writer=False) is None


@pytest.mark.parametrize("whole", [True, False])
def test_a_restore_is_read_as_it_was_written(whole: bool) -> None:
    row = restore_row(b"p" * 32, 1234.56, 10**12, whole=whole)
    assert read_restore(row) == ((b"p" * 32).hex(), 1234.6, whole)
    assert read_restore(msgspec.structs.replace(row, seen="quick")) is None
    assert read_restore(msgspec.structs.replace(row, tried="restore point x")) is None


@pytest.mark.parametrize(
    ("address", "owner"),
    [
        (
            "aws-kms:arn:aws:kms:eu-west-1:444455556666:key/0b1c2d3e-aaaa-bbbb-cccc-444455556666",
            "aws:444455556666",
        ),
        ("gcp-kms:projects/backup-1/locations/l/keyRings/r/cryptoKeys/k", "gcp:backup-1"),
        ("azure-keyvault:https://safe.vault.azure.net/keys/k", "azure-keyvault:safe.vault.azure.net"),
        ("openbao:https://bao.example.com:8200/transit/k", "openbao:bao.example.com:8200"),
    ],
)
def test_who_owns_a_key_of_a_key_service(address: str, owner: str) -> None:
    key = key_of(service_recipient(parse_address(address), "n", 1))
    assert key.owner == owner
    assert key.key_id.startswith(address)


def test_a_kit_belongs_to_whoever_holds_it() -> None:
    key = key_of(Recipient(b"\x12" * 16, "kit", "safe", b"", 1))
    assert key.key_id == key.owner == "kit 121212121212"


def test_the_medium_is_what_the_address_shows() -> None:
    assert medium_of("s3://b/v", "tape", "s3://b", "device 8:1") is Medium.OBJECT_STORAGE
    assert medium_of("azure://a/c", "disk", "azure://a", "") is Medium.OBJECT_STORAGE
    assert medium_of("sftp://h/v", "object-storage", "sftp://h", "") is Medium.DISK
    assert medium_of("sftp://h/v", "tape", "sftp://h", "") is Medium.TAPE
    assert medium_of("/v", "disk", "device 8:2", "device 8:1") is Medium.DISK
    assert medium_of("/v", "disk", "device 8:1", "device 8:1") is Medium.VOLUME
    assert medium_of("/v", "object-storage", "", "") is Medium.DISK


def test_what_holds_a_vault_is_seen_whatever_the_plan_says(tmp_path: Path) -> None:
    tree = Tree(kind="tree", paths=(str(tmp_path),))
    assert storage_of("s3://b/one") == storage_of("s3://b/two") != storage_of("s3://c/one")
    assert storage_of("s3://b/v?endpoint=http://h:1") != storage_of("s3://b/v?endpoint=http://h:2")
    assert storage_of("azure://account/c1/p") == storage_of("azure://account/c2")
    assert storage_of("sftp://ann@host/a") == storage_of("sftp://bo@host:2222/b") == "sftp://host"
    assert storage_of(str(tmp_path)) == production_storage(tree) != storage_of("/proc")
    assert storage_of("/not/there") == ""
    assert production_storage(Tree(kind="tree", paths=(str(tmp_path), "/proc"))) == ""
    assert production_storage(Bucket(kind="bucket", url="s3://b")) == ""


def test_what_retention_promises() -> None:
    assert promised_s(Policy()) == promised_s(Policy(last=9)) == 0
    assert promised_s(Policy(daily=30, weekly=8)) == 56 * DAY
    assert promised_s(Policy(hourly=5, within_s=3 * DAY)) == 3 * DAY
    assert promised_s(Policy(yearly=7)) == 7 * 365 * DAY


def test_a_checkpoint_in_a_copy_says_nothing_of_who_extends_its_locks() -> None:
    council = Council.make(0, lock_s=30 * DAY)
    vault = council.open()
    now = vault.store.now()
    look = VaultLook("v", "v", vault, now=now, checkpoint_at=now - 6 * DAY)
    assert look.kept_s(is_copy=False) == (30 - 6 - 1) * DAY
    assert look.kept_s(is_copy=True) == 0
    look.checkpoint_at, look.epoch_at = 0, now - 7 * DAY
    assert look.kept_s(is_copy=True) == look.kept_s(is_copy=False) == 23 * DAY
    look.epoch_at = now - 7 * DAY - 1
    assert look.kept_s(is_copy=False) == 0


def test_snapshots_that_cannot_be_listed_are_unknown_and_not_missing() -> None:
    plan = Plan.model_validate(
        {
            "version": 1,
            "name": "p",
            "sites": {"home": {"provider": "on-premises", "account": "a", "region": "r"}},
            "vaults": {},
            "workloads": {
                "mail": {
                    "site": "home",
                    "snapshots": {"copy_to": ["home"]},
                    "source": {"kind": "command", "command": ["true"], "filename": "x"},
                }
            },
        }
    )
    first, second = snapshot_copies(plan, "mail", [])
    assert "no snapshots are taken" in first.unreachable
    assert second.name == "at home"
