"""Whom Donjon is at each provider: what the plan names reaches the SDKs."""

from __future__ import annotations

import json
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from donjon.app.catalog.opening import Places
from donjon.app.config import Settings
from donjon.app.stores import open_store
from donjon.core.errors import UsageError
from donjon.plan.model import Credential, Plan

CLIENT = "11111111-2222-3333-4444-555555555555"
ACCOUNT = "vault@project.iam.gserviceaccount.com"


def plan(**vaults: dict[str, str]) -> Plan:
    return Plan.model_validate(
        {
            "version": 1,
            "name": "test",
            "credentials": {
                "aws": {"aws_profile": "backup"},
                "azure": {"azure_client": CLIENT},
                "google": {"google_account": ACCOUNT},
                "secret": {"service": "azure", "file": "/etc/secret"},
            },
            "sites": {
                "cloud": {"provider": "aws", "account": "1", "region": "r", "credential": "aws"},
                "cellar": {"provider": "on-premises", "account": "a", "region": "b"},
            },
            "vaults": {name: {"site": "cloud"} | vault for name, vault in vaults.items()},
            "workloads": {"w": {"source": {"kind": "tree", "paths": ["/srv"]}, "vault": next(iter(vaults))}},
        }
    )


def places(tmp_path: Path, **vaults: dict[str, str]) -> Places:
    return Places(Settings(tmp_path), plan(**vaults), lambda _: None)


def test_a_vault_has_its_own_credential_or_that_of_its_site(tmp_path: Path) -> None:
    found = places(
        tmp_path,
        site={"url": "s3://bucket/v"},
        own={"url": "gs://bucket/v", "credential": "google"},
        ceph={"url": "s3://bucket/w", "credential": "aws", "site": "cellar"},
        stored={"url": "azure://account/c", "credential": "secret"},
        none={"url": "file:///srv/vault", "site": "cellar"},
    )
    credentials = {name: found.credential(name) for name in found.plan.vaults}
    profiles = {name: one and one.aws_profile for name, one in credentials.items()}
    assert profiles == {"site": "backup", "own": None, "ceph": "backup", "stored": None, "none": None}
    own = credentials["own"]
    own = found.credential("own")
    assert own is not None
    assert own.google_account == ACCOUNT
    assert found.space("own").settings == replace(found.settings, vault="gs://bucket/v", credential=own)


@pytest.mark.parametrize(
    ("vault", "hint"),
    [
        ({"url": "azure://account/c", "credential": "aws"}, "Give it `azure_client`, or leave it out."),
        ({"url": "s3://bucket/v", "credential": "secret"}, "Give it `aws_profile`, or leave it out."),
        ({"url": "sftp://host/v", "credential": "aws"}, "Leave it out."),
    ],
)
def test_a_credential_that_says_nothing_for_the_address_is_refused(
    tmp_path: Path, vault: dict[str, str], hint: str
) -> None:
    with pytest.raises(UsageError, match="says nothing for") as refused:
        places(tmp_path, v=vault).credential("v")
    assert refused.value.hint == hint


class Identities(BaseHTTPRequestHandler):
    """The endpoint of App Service where a managed identity gets its tokens.

    https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
    """

    asked: ClassVar[list[dict[str, list[str]]]] = []

    def do_GET(self) -> None:
        self.asked.append(parse_qs(urlsplit(self.path).query))
        body = json.dumps({"access_token": "t", "expires_on": "4102444800", "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_vault_in_azure_is_opened_as_the_managed_identity_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"):
        monkeypatch.delenv(name, raising=False)
    server = HTTPServer(("127.0.0.1", 0), Identities)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.server_port}/token")
        monkeypatch.setenv("IDENTITY_HEADER", "x")
        store: Any = open_store("azure://account/container", credential=Credential(azure_client=CLIENT))
        service = store.inner.inner._connect()
        service.credential.get_token("https://storage.azure.com/.default")
    finally:
        server.shutdown()
        server.server_close()
    assert [asked["client_id"] for asked in Identities.asked] == [[CLIENT]]


def test_a_vault_in_google_cloud_is_opened_as_the_service_account_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    nobody = AnonymousCredentials()  # type: ignore[no-untyped-call]  # Google's own
    monkeypatch.setattr(google.auth, "default", lambda **_: (nobody, "project"))
    store: Any = open_store("gs://bucket/v", credential=Credential(google_account=ACCOUNT))
    client = store.inner.inner._connected().client
    assert client._credentials.service_account_email == ACCOUNT
    assert client.project == "project"
