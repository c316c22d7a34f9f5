"""SAS and account keys of Azure Storage, looked at by the real command, which asks nobody."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
from azure.storage.blob import UserDelegationKey, generate_container_sas

from tests.integration.cli import Donjon
from tests.integration.planted import Secrets

_VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"
_KEY = base64.b64encode(b"a key made up for this test alone".ljust(64, b"!")).decode()
_ACTIONS = (("list",), ("check",), ("check", "--json"), ("rotate",), ("retire",))


@dataclass(frozen=True)
class Setup:
    host: Donjon

    @property
    def file(self) -> Path:
        return self.host.folder / "azure.env"

    def hold(self, sas: str) -> None:
        """Put it into the file."""
        self.file.write_text(
            f'OTHER=1\n{_VARIABLE}="BlobEndpoint=https://acme.blob.core.windows.net;SharedAccessSignature={sas}"'
        )
        self.file.chmod(0o600)


def _secrets(sas: str) -> Secrets:
    signature = parse_qs(sas)["sig"][0]
    secrets = Secrets()
    for text in (signature, quote(signature, safe=""), signature[:12], _KEY):
        secrets.add(text.encode())
    return secrets


def _delegated(permissions: str = "rci", days: int = 6) -> str:
    now = datetime.now(UTC)
    key: Any = UserDelegationKey()  # type: ignore[no-untyped-call]
    key.signed_oid = key.signed_tid = "11111111-2222-3333-4444-555555555555"
    key.signed_service, key.signed_version = "b", "2025-01-05"
    begins, ends = now - timedelta(days=1), now + timedelta(days=days)
    key.signed_start, key.signed_expiry = (f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (begins, ends))
    key.value = _KEY
    more: dict[str, Any] = {"permission": permissions, "start": begins, "expiry": ends, "protocol": "https"}
    return str(generate_container_sas("acme", "vault", user_delegation_key=key, **more))


@pytest.fixture
def setup(host: Donjon) -> Iterator[Setup]:
    made = Setup(host)
    yield made
    assert [path.name for path in host.folder.glob("azure.env*")] in ([], ["azure.env"])


def test_a_sas_is_listed_and_checked_for_its_role_and_its_end(setup: Setup) -> None:
    sas = _delegated()
    secrets = _secrets(sas)
    setup.hold(sas)
    options = ["azure-storage", "--file", str(setup.file)]
    (listed,) = setup.host.json("credentials", "list", *options)["credentials"]
    assert (listed["id"], listed["in_use"]) == ("acme/user-delegation-sas", True)
    assert (listed["details"]["permissions"], listed["details"]["protocol"]) == ("rci", "https")
    assert listed["expires"] == listed["details"]["key_expires"]
    assert "permissions rci" in setup.host.run("credentials", "list", *options).stdout.decode()
    assert setup.host.json("credentials", "check", *options)["ok"]
    worse = setup.host.json("credentials", "check", *options, "--role", "reader", code=4)["findings"]
    assert (worse[0]["check"], worse[0]["severity"]) == ("over-privileged", "critical")
    late = setup.host.later(7).json("credentials", "check", *options, code=4)["findings"]
    assert late[0]["check"] == "expired"
    before = setup.file.read_bytes()
    for action in _ACTIONS:
        code = 2 if action[0] in {"rotate", "retire"} else 0
        done = setup.host.run("credentials", *action, *options, code=code)
        assert secrets.found_in(done.stdout, done.stderr) == []
        if code:
            assert b"revoke-delegation-keys" in done.stderr
    assert setup.file.read_bytes() == before


def test_an_account_key_in_the_variable_is_critical_and_never_shown(setup: Setup) -> None:
    environment = {_VARIABLE: f"DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={_KEY}"}
    arguments = ("credentials", "check", "azure-storage", "--json")
    found = json.loads(setup.host.run(*arguments, code=4, environment=environment).stdout)["findings"]
    assert [one["check"] for one in found] == ["account-key", "stored-secret"]
    done = setup.host.run("credentials", "rotate", "azure-storage", code=2, environment=environment)
    assert b"keys renew" in done.stderr
    assert _KEY.encode() not in done.stdout + done.stderr


def test_without_a_stored_secret_there_is_nothing_to_look_at(setup: Setup) -> None:
    told = setup.host.run("credentials", "check", "azure-storage", code=13).stderr
    assert b"with an identity" in told


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda sas: sas[:-6], b"cut off"),
        (lambda sas: sas + "&" + next(p for p in sas.split("&") if p.startswith("sig=")), b"sig twice"),
        (lambda sas: sas.replace("se=20", "se=soon"), b"time in the field se"),
        (lambda sas: sas.replace("&sig=", "sig="), b"the SAS"),
    ],
)
@pytest.mark.parametrize("action", [("check", "--json"), ("retire",)])
def test_a_damaged_sas_ends_with_2_and_is_not_quoted(
    setup: Setup, action: tuple[str, ...], damage: object, told: bytes
) -> None:
    whole = _delegated()
    setup.hold(damage(whole))  # type: ignore[operator]
    done = setup.host.run("credentials", *action, "azure-storage", "--file", setup.file, code=2)
    assert told in done.stderr
    assert _secrets(whole).found_in(done.stdout, done.stderr) == []


def test_an_unknown_role_ends_with_2(setup: Setup) -> None:
    setup.hold(_delegated())
    options = ["--file", str(setup.file), "--role", "king"]
    assert b"no role" in setup.host.run("credentials", "check", "azure-storage", *options, code=2).stderr
