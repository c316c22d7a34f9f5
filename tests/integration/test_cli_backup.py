"""`donjon backup` as a script and a person see it."""

from __future__ import annotations

from pathlib import Path

from tests.integration.cli import Donjon


def test_a_backup_reports_what_it_did_as_one_object(donjon: Donjon, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_bytes(b"alpha" * 1000)
    done = donjon.without_kit().json("backup", tmp_path / "data", "--workload", "w")
    assert done["workload"] == "w"
    assert (done["files_new"], done["files_changed"], done["files_unmodified"]) == (1, 0, 0)
    assert done["bytes_read"] == 5000
    assert done["bytes_stored"] > 0
    assert done["errors"] == []
    assert done["duration_s"] >= 0
    assert len(done["point"]) == 64
    assert done["time"].endswith("Z")
