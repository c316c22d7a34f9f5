"""Evidence and auditors with the real command; the drills have tests of their own."""

from __future__ import annotations

from pathlib import Path

from donjon.app.config import Settings
from donjon.app.evidence import Recorder
from donjon.app.wiring import Workspace
from donjon.format.evidence import EvidenceRow, Outcome, evidence_row
from tests.integration.cli import Donjon

ROW = evidence_row("delete a version", "refused", "refused", Outcome.PASSED, answer="403 AccessDenied")
BAD = evidence_row("shorten a lock", "refused", "accepted", Outcome.FAILED)


def _record(host: Donjon, credential: Path | None, out: Path | None, *rows: EvidenceRow) -> str:
    workspace = Workspace(Settings(host.home))
    vault = workspace.open()
    recorder = Recorder(workspace, vault, credential=credential, environment={}, out=out)
    return recorder.record("attack-drill", "file", rows).signed.digest.hex()


def test_evidence_of_an_auditor_is_seen_and_checked_by_those_without_a_key(
    donjon: Donjon, tmp_path: Path
) -> None:
    credential, file = tmp_path / "eve.auditor", tmp_path / "drill.evidence"
    made = donjon.json("auditor", "add", "eve", "--out", credential)
    assert [one["name"] for one in donjon.json("auditor", "list")["auditors"]] == ["eve"]
    first = _record(donjon, credential, file, ROW)
    second = _record(donjon, None, None, ROW, BAD)  # this host's writer signs it
    watcher = donjon.without_kit()
    found = watcher.json("evidence", "list")
    told = [(one["id"], one["passed"], one["role"], one["standing"]) for one in found["evidence"]]
    assert sorted(told) == sorted([(first, True, "auditor", "counts"), (second, False, "writer", "counts")])
    shown = watcher.json("evidence", "show", first[:8])
    assert (shown["signer"], shown["name"]) == (made["id"], "eve")
    assert shown["rows"][0]["answer"] == "403 AccessDenied"
    assert "FAILED  shorten a lock" in watcher.text("evidence", "show", second)
    assert watcher.json("evidence", "check", file)["standing"] == "counts"
    assert watcher.json("verify")["ok"]

    stranger = Donjon(tmp_path / "nowhere", has_kit=False)
    vault_id = next((donjon.home / "writers").glob("*.json")).stem
    alone = stranger.json("evidence", "check", file, "--vault-id", vault_id)
    assert (alone["id"], alone["passed"], alone["standing"]) == (first, True, "alone")
    stranger.run("evidence", "check", file, "--vault-id", "ab" * 16, code=12)
    stranger.run("evidence", "check", file, "--vault-id", "short", code=2)
    changed = tmp_path / "changed"
    changed.write_bytes(file.read_bytes().replace(b"refused", b"granted", 1))
    stranger.run("evidence", "check", changed, "--vault-id", vault_id, code=12)
    watcher.run("evidence", "check", changed, code=12)
    watcher.run("evidence", "check", tmp_path / "none", code=2)
    watcher.run("evidence", "show", "ffffffff", code=1)

    copy = tmp_path / "copy"
    watcher.run("copy", "--to", copy)
    assert len(watcher.json("evidence", "list", "--vault", copy)["evidence"]) == 2

    donjon.run("auditor", "revoke", "eve")
    assert watcher.json("evidence", "check", file)["standing"] == "counts"  # the vault had it before
    refused = donjon.run("auditor", "revoke", "eve", code=2)
    assert b"auditor list" in refused.stderr


def test_an_auditor_signs_nothing_but_evidence(donjon: Donjon, tmp_path: Path) -> None:
    credential = tmp_path / "eve.auditor"
    donjon.run("auditor", "add", "eve", "--out", credential)
    error = donjon.run("custody", "checkpoint", "--credential", credential, code=13).stderr.decode()
    assert "no custodian credential" in error
