"""Rotating and checking keys that a key service keeps. MiniStack obeys policies and the states of keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from donjon.testing.aws.ministack import MiniStack
from tests.integration.cli import Donjon
from tests.integration.engine import fill
from tests.integration.test_key_services import Place


@pytest.fixture
def place(host: Donjon, aws: MiniStack, tmp_path: Path) -> Place:
    """A vault that a kit and a key of KMS open, with one point."""
    source = tmp_path / "source"
    fill(source, 5, 3)
    arn = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    made = Place(host, aws, arn, source)
    sealing = made.someone("kms:Encrypt")
    init = ("init", host.vault, "--kit", host.kit, "--lock", "none", "--key", made.uri)
    host.without_kit().run(*init, environment=sealing)
    host.without_kit().run("backup", source, environment=sealing)
    return made


def _keys(place: Place, who: dict[str, str], *options: str, code: int = 0) -> dict[str, dict[str, Any]]:
    done = place.host.run("keys", "check", *options, "--json", environment=who, code=code)
    return {key["name"]: key for key in json.loads(done.stdout)["keys"]}


def test_a_key_of_a_service_is_rotated_to_another(place: Place, tmp_path: Path) -> None:
    other = place.keys.create_key()["KeyMetadata"]["Arn"]
    sealing, opening = place.someone("kms:Encrypt"), place.someone("kms:Decrypt")
    rotate = ("keys", "rotate", "aws-kms", "--to", f"aws-kms:{other}", "--revoke-old")
    refused = place.host.run("keys", "rotate", "aws-kms", "--to", place.uri, environment=sealing, code=1)
    assert b"opens this vault already" in refused.stderr
    place.host.run("keys", "rotate", "aws-kms", "--out", tmp_path / "k", environment=sealing, code=2)
    told = place.host.run(*rotate, environment=sealing).stdout.decode()  # takes no right to open
    assert "can still open 1 of 1 sessions, 1 points from" in told
    place.keys.disable_key(KeyId=place.arn)
    place.host.without_kit().run("backup", place.source, "--read-all", environment=sealing)
    bare = place.host.without_kit()
    points = json.loads(bare.run("points", "--json", environment=sealing).stdout)["points"]
    assert len(points) == 2
    for point in points:
        bare.run("restore", point["id"], tmp_path / point["id"], environment=opening)


def test_check_tells_which_services_it_could_not_try(place: Place) -> None:
    found = _keys(place, place.someone("kms:Decrypt"))
    assert (found["aws-kms"]["tried"], found["aws-kms"]["opened"], found["aws-kms"]["not_tried"]) == (
        1,
        1,
        None,
    )
    assert (found["recovery kit"]["tried"], found["recovery kit"]["opened"]) == (1, 1)
    found = _keys(place, place.someone("kms:Encrypt"))
    assert (found["aws-kms"]["sealed"], found["aws-kms"]["tried"]) == (1, 0)
    assert "kms:Decrypt" in found["aws-kms"]["not_tried"]
    place.keys.disable_key(KeyId=place.arn)
    found = _keys(place, place.someone("kms:Decrypt"))
    assert "disabled" in found["aws-kms"]["not_tried"].lower()


def test_check_opens_only_a_sample_with_a_service(place: Place) -> None:
    sealing, opening = place.someone("kms:Encrypt"), place.someone("kms:Decrypt")
    for _ in range(2):
        place.host.without_kit().run("backup", place.source, "--read-all", environment=sealing)
    before = place.calls()[("Decrypt", "session-key")]
    assert _keys(place, opening, "--sample", "2")["aws-kms"]["opened"] == 2
    assert place.calls()[("Decrypt", "session-key")] == before + 2
    assert _keys(place, opening, "--all")["aws-kms"]["opened"] == 3
