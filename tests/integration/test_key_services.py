"""Vaults that a key service opens beside the kit, through the command line.

MiniStack obeys policies and the states of keys; OpenBao and the tokens of SoftHSM2 are real.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from donjon.keys.openbao import TransitKey
from donjon.keys.pkcs11 import TokenAddress
from donjon.testing.aws.ministack import MiniStack
from donjon.testing.servers.openbao import OpenBao
from donjon.testing.servers.softhsm import SoftHsm
from tests import second_reader
from tests.integration.cli import Donjon
from tests.tokens import make_rsa, opened


def allow(*actions: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


@dataclass
class Place:
    """A vault in a folder with a kit and a key of KMS, and who may do what with the key."""

    host: Donjon
    aws: MiniStack
    arn: str
    source: Path

    @property
    def uri(self) -> str:
        return f"aws-kms:{self.arn}"

    @property
    def keys(self) -> Any:
        return self.aws.client("kms")

    def someone(self, *actions: str) -> dict[str, str]:
        """The environment of a user who may do these actions."""
        user = self.aws.make_user(allow(*actions))
        return user.environment | {"AWS_ENDPOINT_URL_KMS": self.aws.endpoint}

    def restore(self, target: str, who: Mapping[str, str], code: int = 0) -> str:
        """Restore the newest point without the kit; what the command says of it."""
        folder = self.host.folder / target
        return self.host.run("restore", "latest", folder, code=code, environment=who).stderr.decode()

    def calls(self) -> Counter[tuple[str, str]]:
        """How often KMS was asked what about this key: (event, purpose)."""
        found: Counter[tuple[str, str]] = Counter()
        pages = self.aws.client("cloudtrail").get_paginator("lookup_events").paginate()
        for event in (event for page in pages for event in page["Events"]):
            asked = json.loads(event["CloudTrailEvent"])["requestParameters"] or {}
            if asked.get("KeyId") == self.arn and event["EventName"] in {"Encrypt", "Decrypt"}:
                found[event["EventName"], asked["EncryptionContext"]["donjon:purpose"]] += 1
        return found

    def sessions(self) -> list[Path]:
        return [path for path in (self.host.vault / "sessions").rglob("*") if path.is_file()]


@pytest.fixture
def place(host: Donjon, aws: MiniStack, tmp_path: Path) -> Place:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content")
    arn = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    made = Place(host.without_kit(), aws, arn, source)
    made.host.run(
        "init",
        host.vault,
        "--kit",
        host.kit,
        "--lock",
        "none",
        "--key",
        made.uri,
        environment=made.someone("kms:Encrypt"),
    )
    return made


def test_who_may_encrypt_backs_up_and_who_may_decrypt_restores(place: Place) -> None:
    writer, reader = place.someone("kms:Encrypt"), place.someone("kms:Decrypt")
    place.host.run("backup", place.source, environment=writer)
    assert place.calls() == {("Encrypt", "vault-secret"): 1, ("Encrypt", "session-key"): 1}
    refused = place.restore("stolen", writer, code=11)
    assert "kms:Decrypt" in refused
    assert place.arn in refused
    place.host.run("backup", place.source, environment=writer)  # without the kit it reads its own cache
    before = place.calls()
    assert before["Encrypt", "session-key"] == 2
    place.restore("restored", reader)
    assert place.calls() - before == {("Decrypt", "vault-secret"): 1, ("Decrypt", "session-key"): 2}
    [restored] = (place.host.folder / "restored").rglob("file")
    assert restored.read_bytes() == b"content"
    assert not list((place.host.folder / "stolen").rglob("file"))
    kit = second_reader.read_kit(place.host.kit.read_text())
    vault = second_reader.Vault(second_reader.read_folder(place.host.vault), kit)
    points = list(vault.points())
    assert [vault.body(point).workload != "" for point in points] == [True, True]
    [shown] = [key for key in place.host.json("keys", "list")["keys"] if key["kind"] == "aws-kms"]
    assert (shown["uri"], shown["name"]) == (place.uri, "aws-kms")


def test_a_key_that_is_out_of_use_closes_its_door_alone(place: Place) -> None:
    both, nobody = place.someone("kms:Encrypt", "kms:Decrypt"), place.someone("kms:ListKeys")
    place.host.run("backup", place.source, environment=both)
    sessions = place.sessions()

    def refuses(said: str, code: int, who: Mapping[str, str] = both) -> None:
        assert said in place.restore("restored", who, code=code)
        done = place.host.run("backup", place.source, code=code, environment=who)
        assert said.replace("Decrypt", "Encrypt") in done.stderr.decode()
        assert place.sessions() == sessions  # nothing is half-done

    refuses("no permission kms:Decrypt", 11, nobody)
    place.keys.disable_key(KeyId=place.arn)
    refuses("the key is disabled", 13)
    place.keys.enable_key(KeyId=place.arn)
    place.keys.schedule_key_deletion(KeyId=place.arn)
    refuses("the key is pending deletion", 13)
    kit = {"DONJON_KIT": str(place.host.kit)} | nobody
    place.restore("restored", kit)
    [restored] = (place.host.folder / "restored").rglob("file")
    assert restored.read_bytes() == b"content"


def test_a_key_joins_and_opens_what_was_there_before(donjon: Donjon, aws: MiniStack, tmp_path: Path) -> None:
    kms = aws.client("kms")
    arn = kms.create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
    kms.replicate_key(KeyId=arn, ReplicaRegion="eu-west-1")
    replica = arn.replace("us-east-1", "eu-west-1")
    (tmp_path / "source").mkdir()
    donjon.run("backup", tmp_path / "source")
    place = Place(donjon, aws, arn, tmp_path / "source")
    both = place.someone("kms:Encrypt", "kms:Decrypt")
    donjon.run("keys", "add", "kms", "aws-kms:alias/x", "--name", "k", code=2, environment=both)
    donjon.run("keys", "add", "kms", "nothing:here", "--name", "k", code=2, environment=both)
    added = json.loads(
        donjon.run("keys", "add", "kms", place.uri, "--name", "far", "--json", environment=both).stdout
    )
    assert (added["kind"], added["uri"], added["sessions"], added["sealed"]) == ("aws-kms", place.uri, 1, 1)
    again = donjon.run("keys", "add", "kms", f"aws-kms:{replica}", "--name", "k", code=1, environment=both)
    assert "opens this vault already" in again.stderr.decode()
    checked = donjon.without_kit().run("keys", "check", "--json", environment=both)
    assert json.loads(checked.stdout)["ok"]
    kms.disable_key(KeyId=arn)
    donjon.without_kit().run("keys", "check", code=13, environment=both)
    elsewhere = both | {"AWS_DEFAULT_REGION": "eu-west-1"}
    checked = donjon.without_kit().run("keys", "check", "--json", environment=elsewhere)
    assert json.loads(checked.stdout)["ok"]
    donjon.run("keys", "revoke", "far")
    closed = donjon.without_kit().run("keys", "check", code=13, environment=elsewhere)
    assert "no key at hand" in closed.stderr.decode()


def test_several_services_back_each_other(host: Donjon, bao: OpenBao, hsm: SoftHsm, tmp_path: Path) -> None:
    source, label = tmp_path / "source", f"k{secrets.token_hex(8)}"
    source.mkdir()
    (source / "file").write_bytes(b"content")
    with opened(hsm, hsm.tokens[1]) as session:
        make_rsa(session, label)
    transit = TransitKey(bao.address, "transit", bao.make_key())
    token = TokenAddress(hsm.tokens[1], label)
    may_seal = bao.make_token({f"transit/encrypt/{transit.key}": ["update"]})
    writer = hsm.public_environment | {"BAO_ADDR": bao.address, "BAO_TOKEN": may_seal}
    keys = ["--key", transit.uri, "--key", token.uri]
    host.run("init", host.vault, "--kit", host.kit, "--lock", "none", *keys, environment=writer)
    host = host.without_kit()
    host.run("backup", source, environment=writer)
    told = host.run("restore", "latest", tmp_path / "none", code=13, environment=writer).stderr.decode()
    for said in (f"update transit/decrypt/{transit.key}", token.uri, "--kit"):
        assert said in told
    with_pin = writer | hsm.environment
    with_token = writer | {"BAO_TOKEN": bao.make_token({f"transit/decrypt/{transit.key}": ["update"]})}
    for number, reader in enumerate((with_pin, with_token)):
        host.run("restore", "latest", tmp_path / str(number), environment=reader)
        [restored] = (tmp_path / str(number)).rglob("file")
        assert restored.read_bytes() == b"content"
    kinds = [(key["kind"], key["uri"]) for key in host.json("keys", "list")["keys"]]
    assert kinds == [("kit", None), ("openbao", transit.uri), ("pkcs11", token.uri)]
    for secret in (hsm.pin, writer["BAO_TOKEN"], with_token["BAO_TOKEN"]):
        assert secret not in told
