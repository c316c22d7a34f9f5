"""The drill of a lost KMS: everything opens with the kit alone, or the drill says what does not.

MiniStack logs every call to its KMS, so that it is not the drill itself that says there was none.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from donjon.testing.aws.ministack import MiniStack
from tests.integration.cli import Donjon
from tests.integration.engine import fill
from tests.integration.test_key_services import Place


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 12, 3)
    return folder


def outcomes(done: dict[str, Any]) -> dict[str, str]:
    """What was tried, and how it ended; numbers left out."""
    return {"".join(c for c in row["tried"] if not c.isdigit()): row["outcome"] for row in done["rows"]}


def test_everything_opens_once_the_kms_is_lost(
    host: Donjon, aws: MiniStack, source: Path, tmp_path: Path
) -> None:
    arn = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    place = Place(host.without_kit(), aws, arn, source)
    who = place.someone("kms:Encrypt", "kms:Decrypt")
    init = ("init", host.vault, "--kit", host.kit, "--lock", "none", "--key", place.uri)
    host.without_kit().run(*init, environment=who)
    for _ in range(2):
        host.without_kit().run("backup", source, "--read-all", environment=who)
    aws.client("kms").disable_key(KeyId=arn)
    place.restore("lost", who, code=13)  # it is gone indeed
    before = place.calls()

    signed = tmp_path / "drill.evidence"
    drill = ("drill", "key-loss", "--chunks", "1000", "--evidence", signed, "--json")
    done = json.loads(host.run(*drill, environment=who).stdout)
    assert done["passed"]
    assert outcomes(done) == {
        "reach the  key services of the vault": "passed",
        "open the vault secret with the kit": "passed",
        "open the keys of  sessions": "passed",
        "open the manifests of  points": "passed",
        next(tried for tried in outcomes(done) if "chunks of their data" in tried): "passed",
        "count who asked a key service meanwhile": "passed",
    }
    assert [row["seen"] for row in done["rows"]][1:5] == ["opens", "2 of 2", "2 of 2", "2 of 2"]
    assert place.calls() == before
    assert host.json("evidence", "check", signed)["kind"] == "key-loss-drill"
    assert host.json("evidence", "show", "latest")["id"] == done["evidence"]["id"]
    host.run("drill", "key-loss")  # nor does it take credentials of the cloud
    assert host.json("verify")["ok"]


def test_shares_do_as_well_as_the_kit(donjon: Donjon, source: Path, tmp_path: Path) -> None:
    donjon.run("backup", source)
    shares = tmp_path / "shares"
    donjon.run("keys", "split", "--needed", "2", "--shares", "3", "--out", shares)
    chosen = [word for n in (1, 3) for word in ("--share", str(shares / f"share-{n}-of-3.txt"))]
    bare = donjon.without_kit()
    done = bare.json("drill", "key-loss", *chosen)
    assert done["passed"]
    assert "made of the shares 1, 3 of 3" in done["subject"]
    bare.run("drill", "key-loss", *chosen[:2], code=13)
    bare.run("drill", "key-loss", code=13)

    other = Donjon(tmp_path / "other")
    other.folder.mkdir()
    other.init()
    other.run("keys", "split", "--needed", "2", "--shares", "3", "--out", tmp_path / "wrong")
    wrong = [word.replace("/shares/", "/wrong/") for word in chosen]
    error = bare.run("drill", "key-loss", *wrong, code=13).stderr.decode()
    assert "another vault" in error


def test_a_session_without_a_seal_for_the_kit_fails_the_drill(
    donjon: Donjon, source: Path, tmp_path: Path
) -> None:
    donjon.run("backup", source)
    late = tmp_path / "late.kit"
    donjon.run("keys", "add", "kit", "--name", "late", "--out", late)
    donjon.run("backup", source, "--read-all")
    with_late = {"DONJON_KIT": str(late)}
    assert donjon.json("drill", "key-loss")["passed"]
    for seal in [path for path in (donjon.vault / "seals").rglob("*") if path.is_file()]:
        seal.unlink()
    signed = tmp_path / "drill.evidence"
    found = donjon.run("drill", "key-loss", "--evidence", signed, environment=with_late, code=4)
    assert "has no seal for the kit" in found.stdout.decode()
    shown = donjon.json("evidence", "check", signed, code=4)
    assert not shown["passed"]
    rows = {row["tried"]: row for row in shown["rows"]}
    assert rows["open the keys of 2 sessions"]["seen"] == "1 of 2"
    assert rows["open the manifests of 2 points"]["seen"] == "1 of 2"
    donjon.run("keys", "reseal")
    donjon.run("drill", "key-loss", environment=with_late)

    donjon.run("keys", "revoke", "late")
    found = donjon.run("drill", "key-loss", "--no-evidence", environment=with_late, code=4)
    assert "no longer, one of the vault's recipients" in found.stdout.decode()


def test_data_that_does_not_read_fails_the_drill(donjon: Donjon, source: Path) -> None:
    donjon.run("backup", source)
    packs = [path for path in (donjon.vault / "packs").rglob("*") if path.is_file()]
    largest = max(packs, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    for at in range(0, len(data) // 2, 64):
        data[at] ^= 1
    largest.write_bytes(data)
    shutil.rmtree(donjon.home / "cache", ignore_errors=True)
    done = donjon.json("drill", "key-loss", "--chunks", "1000", code=4)
    assert any(
        row["outcome"] == "failed" for row in done["rows"] if row["tried"].startswith("read the point")
    )


def test_an_empty_vault_passes_for_what_it_has(donjon: Donjon) -> None:
    done = donjon.json("drill", "key-loss", "--no-evidence")
    assert done["passed"]
    assert done["evidence"] is None
    assert {row["outcome"] for row in done["rows"]} == {"passed", "skipped"}
