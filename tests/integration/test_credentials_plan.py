"""The credentials that a plan names, checked by its limits with the real command.

Keys of AWS are on a server that enforces policies, a key of Google on a fake that obeys its documents, and
the signing key is that of a real writer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from donjon.app.credentials import CredentialRequest, check_credentials
from donjon.core.errors import KeyNotAvailable, UsageError
from donjon.credentials.aws_profile import key_profile
from donjon.credentials.findings import Limits
from donjon.testing.aws.ministack import MiniStack
from donjon.testing.aws.people import User
from donjon.testing.google.iam import GoogleIam, google_iam
from tests.integration.cli import Donjon

_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "iam:ListAccessKeys", "Resource": "*"}],
}


@dataclass(frozen=True)
class Setup:
    """A host with a vault, keys of two clouds, and a plan that names all."""

    host: Donjon
    server: MiniStack
    google: GoogleIam
    user: User

    @property
    def plan(self) -> Path:
        return self.host.home / "donjon.yaml"

    def entries(self) -> dict[str, dict[str, Any]]:
        endpoint = self.server.endpoint
        file = str(self.host.folder / "key.json")
        return {
            "backup": {"aws_profile": "backup", "endpoint": endpoint, "service": "aws"},
            "machine": {"aws_profile": "machine"},
            "standard": {},
            "reports": {
                "service": "google", "file": file, "endpoint": self.google.address, "max_age": "101d",
            },
            "host": {"service": "writer", "vault": "main", "max_age": "1y"},
        }  # fmt: skip

    def write(self, credentials: dict[str, dict[str, Any]], path: Path | None = None) -> Path:
        made = {
            "version": 1, "name": "tests", "credentials": credentials,
            "sites": {
                "here": {"provider": "on-premises", "account": "a", "region": "b"},
                "there": {"provider": "on-premises", "account": "c", "region": "d"},
            },
            "vaults": {"main": {"url": self.host.vault.as_uri(), "site": "there"}},
            "workloads": {
                "web": {"source": {"kind": "tree", "paths": ["/srv"]}, "site": "here", "vault": "main"}
            },
        }  # fmt: skip
        path = path or self.plan
        path.write_text(json.dumps(made))  # YAML has all of JSON
        path.chmod(0o600)
        return path

    def check(self, *options: str | Path, code: int = 0) -> dict[str, Any]:
        return self.host.json("credentials", "check", *options, code=code)


@pytest.fixture
def setup(aws: MiniStack, donjon: Donjon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    user = aws.make_user(_POLICY)
    folder = donjon.folder / ".aws"
    folder.mkdir()
    # Not those that servers of other tests have put into this process's environment.
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    (folder / "credentials").write_text(
        f"[keys]\naws_access_key_id = {user.access_key}\naws_secret_access_key = {user.secret_key}\n"
    )
    (folder / "config").write_text(
        "[profile backup]\nrole_arn = arn:aws:iam::1:role/w\nsource_profile = keys\n"
        "[profile machine]\nrole_arn = arn:aws:iam::1:role/w\ncredential_source = Ec2InstanceMetadata\n"
    )
    with google_iam() as google:
        _, file = google.make(datetime.now(UTC) - timedelta(days=100))
        (donjon.folder / "key.json").write_text(json.dumps(file))
        made = Setup(donjon, aws, google, user)
        made.write(made.entries())
        yield made


def _names(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["name"], one["check"]) for one in found["findings"] if one["check"] != "stored-secret"}


def test_all_that_the_plan_names_is_checked_by_its_limits(setup: Setup) -> None:
    found = setup.check()
    assert found["ok"]
    assert _names(found) == set()  # the key of Google is 100 days old, which this plan allows
    assert [one["name"] for one in found["credentials"]] == ["backup", "reports", "host"]
    assert found["credentials"][0]["id"] == setup.user.access_key  # that of the role's source
    assert found["keyless"] == ["machine", "standard"]
    stricter = setup.entries()
    del stricter["reports"]["max_age"]
    other = setup.write(stricter, setup.host.folder / "other.yaml")
    text = setup.host.text("credentials", "check", "--plan", other, code=4)
    assert "reports: over-age: " in text
    assert "backup: over-age" not in text
    assert "Nothing is stored for machine, standard" in text
    assert "allowed are 90 days" in text


def test_options_stand_above_the_plan(setup: Setup) -> None:
    assert _names(setup.check("--max-age", "99d", code=4)) == {("reports", "over-age")}
    later = setup.host.later(400)
    found = later.json("credentials", "check", "writer", "--max-age", "1y", code=4)
    assert [(one["name"], one["check"]) for one in found["findings"]] == [(None, "over-age")]
    setup.write({"host": setup.entries()["host"]})
    assert _names(later.json("credentials", "check", code=4)) == {("host", "over-age")}
    assert later.json("credentials", "check", "--max-age", "401d")["ok"]


def test_one_that_cannot_be_looked_at_is_a_finding_and_hides_no_other(setup: Setup) -> None:
    entries = setup.entries()
    entries["backup"]["endpoint"] = "http://127.0.0.1:9"
    entries["keyfile"] = {"service": "google", "file": "/nowhere"}
    entries["gone"] = {"aws_profile": "gone", "service": "aws"}
    entries["reports"]["max_age"] = "1d"
    setup.write(entries)
    found = setup.check("--fail-on", "critical", code=4)
    unchecked = {(name, "unchecked") for name in ("backup", "gone", "keyfile")}
    assert _names(found) == {*unchecked, ("reports", "over-age")}
    assert [one["name"] for one in found["credentials"]] == ["reports", "host"]
    (lost,) = [one for one in found["findings"] if one["name"] == "keyfile"]
    assert lost["fix"] == "Name the key file with `file`."  # the key of the plan, not the option


def test_a_plan_that_raises_a_limit_is_not_carried_out_once_one_was_adopted(setup: Setup) -> None:
    setup.host.json("plan", "adopt", setup.plan)
    entries = setup.entries()
    entries["reports"]["max_age"] = "9y"
    setup.write(entries)
    refused = setup.host.run("credentials", "check", code=11).stderr.decode()
    assert "credentials.reports.max_age" in refused
    assert "101 d" in refused
    assert setup.host.json("plan", "diff", code=4)["weakens"][0]["path"] == "credentials.reports.max_age"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("aws", "--plan", "x.yaml"), "a service and a plan at once"),
        (("--profile", "backup"), "which service is that about?"),
        (("--role", "reader"), "which service is that about?"),
        (("--max-age", "old"), "old"),
        (("openbao", "--endpoint", "bao:8200"), "no address of a server"),
        (("--fail-on", "all"), "no severity"),
        ((), "there is no plan"),
    ],
)
def test_what_cannot_be_meant_is_told(host: Donjon, options: tuple[str, ...], said: str) -> None:
    text = host.run("credentials", "check", *options, code=2).stderr.decode()
    assert said in text


@pytest.mark.parametrize("service", ["aws", "azure", "google", "openbao"])
@pytest.mark.parametrize(
    "endpoint", ["bao:8200", "http://[::1", "http://host:port", "https://", "ftp://host", ""]
)
def test_an_endpoint_that_is_none_is_told_before_any_sdk_sees_it(service: str, endpoint: str) -> None:
    with pytest.raises(UsageError, match="no address of a server"):
        check_credentials(CredentialRequest(service, endpoint=endpoint), Limits())


# --- which profile holds the key ----------------------------------------------------------------------

_KEY = "aws_access_key_id = AKIA\n"


@pytest.mark.parametrize(
    ("config", "stored", "key"),
    [
        ("", f"[a]\n{_KEY}", "a"),
        ("[profile a]\nrole_arn = r\nsource_profile = b\n", f"[b]\n{_KEY}", "b"),
        ("[profile a]\nsource_profile = b\n[profile b]\nregion = x\n", "[a]\nrole_arn = r\n", "b"),
        ("[profile a]\nrole_arn = r\nsource_profile = a\n", f"[a]\n{_KEY}", "a"),
        ("[profile a]\nrole_arn=r\nsource_profile=b\n[profile b]\nrole_arn=r\nsource_profile=a\n", "", "a"),
        ("[profile a]\nrole_arn = r\nsource_profile = b\n[profile b]\nsso_session = s\n", "", None),
        ("[profile a]\ncredential_process = /bin/x\ns3 =\n  addressing_style = path\n", "", None),
        ("[profile a]\nsso_session = s\n", f"[a]\n{_KEY}", "a"),
        ("[default]\nregion = x\n", f"[default]\n{_KEY}", "default"),
    ],
)
def test_the_profile_with_the_key_is_found(tmp_path: Path, config: str, stored: str, key: str | None) -> None:
    environment = {name: str(tmp_path / name) for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    (tmp_path / "AWS_CONFIG_FILE").write_text(config)
    (tmp_path / "AWS_SHARED_CREDENTIALS_FILE").write_text(stored)
    assert key_profile("default" if "default" in config else "a", environment) == key


@pytest.mark.parametrize("config", ["", "[profile b]\n", "no file\n", "\xff"])
def test_a_profile_that_is_nowhere_or_a_damaged_file_is_told(tmp_path: Path, config: str) -> None:
    (tmp_path / "c").write_text(config, encoding="latin-1")
    environment = {"AWS_CONFIG_FILE": str(tmp_path / "c"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "d")}
    with pytest.raises(KeyNotAvailable):
        key_profile("a", environment)
