"""`donjon roles` as people call it."""

from __future__ import annotations

import json
import stat

from donjon.roles.model import ROLES
from donjon.roles.render import RENDERERS
from tests.integration.cli import Donjon

AWS = (
    *("roles", "render", "--cloud", "aws", "--format", "cloudformation", "--bucket", "acme-vault"),
    *("--account", "222222222222", "--production-account", "111111111111"),
    *("--external-id", "a-long-made-up-word"),
)


def test_the_roles_are_listed_with_their_permissions(host: Donjon) -> None:
    found = host.json("roles", "list", "--cloud", "aws")
    assert [role["name"] for role in found["roles"]] == [role.name for role in ROLES]
    writer = found["roles"][0]
    assert writer["key_permissions"] == ["kms:Encrypt"]
    (put,) = [grant for grant in writer["grants"] if "s3:PutObject" in grant["permissions"]]
    assert put["permissions"] == ["s3:PutObject", "s3:PutObjectRetention"]
    assert "packs/*" in put["objects"]
    text = host.text("roles", "list")
    assert all(role.name in text for role in ROLES)
    assert b"There are: aws, azure" in host.run("roles", "list", "--cloud", "ibm", code=2).stderr


def test_a_template_goes_to_standard_output_or_to_a_new_file(host: Donjon) -> None:
    text = host.text(*AWS)
    assert json.loads(text)["Resources"]["VaultBucket"]
    file = host.folder / "vault.json"
    told = host.json(*AWS, "--out", file)
    assert told == {"cloud": "aws", "format": "cloudformation", "file": str(file), "text": None}
    assert file.read_text() == text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"never overwritten" in host.run(*AWS, "--out", file, code=1).stderr
    assert file.read_text() == text


def test_what_is_wrong_ends_with_2_and_says_what_is_right(host: Donjon) -> None:
    done = host.run("roles", "render", "--cloud", "gcp", "--format", "bicep", "--bucket", "b-b", code=2)
    for cloud, form in RENDERERS:
        assert f"{cloud} {form}".encode() in done.stderr
    assert b"no number of whole days" in host.run(*AWS, "--min-retention", "36h", code=2).stderr
    assert b"names no identity" in host.run(*AWS, "--principal", "reader", code=2).stderr
    assert b"--writer ../x: is not right" in host.run(*AWS, "--writer", "../x", code=2).stderr
    assert b"--allow-ip means nothing" in host.run(*AWS, "--allow-ip", "10.0.0.0/8", code=2).stderr


def test_the_cap_is_two_days_over_the_lock(host: Donjon) -> None:
    bucket = json.loads(
        host.text(
            "roles",
            "render",
            "--cloud",
            "s3",
            "--format",
            "json",
            "--bucket",
            "b-b",
            "--min-retention",
            "60d",
        )
    )["bucket"]
    (cap,) = [part["Condition"] for part in bucket["Statement"] if part["Sid"] == "NoLongerLocks"]
    assert cap == {"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": "62"}}
