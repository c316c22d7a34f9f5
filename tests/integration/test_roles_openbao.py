"""The policies of writer and reader on a real OpenBao, with vaults that a Transit key opens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from donjon.roles import openbao as rendered
from donjon.roles.account import Account
from donjon.testing.servers.openbao import OpenBao, ask
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon
from tests.integration.engine import fill

#: Everything that the Transit engine has of a key, and a few things that it has not.
WAYS = {
    "encrypt": ("POST", "transit/encrypt/{}", {"plaintext": "YQ=="}),
    "decrypt": ("POST", "transit/decrypt/{}", {"ciphertext": "vault:v1:AAAA"}),
    "rewrap": ("POST", "transit/rewrap/{}", {"ciphertext": "vault:v1:AAAA"}),
    "data key": ("POST", "transit/datakey/plaintext/{}", {}),
    "hmac": ("POST", "transit/hmac/{}", {"input": "YQ=="}),
    "sign": ("POST", "transit/sign/{}", {"input": "YQ=="}),
    "read the key": ("GET", "transit/keys/{}", None),
    "list keys": ("LIST", "transit/keys", None),
    "rotate": ("POST", "transit/keys/{}/rotate", {}),
    "configure": ("POST", "transit/keys/{}/config", {"deletion_allowed": True}),
    "trim": ("POST", "transit/keys/{}/trim", {"min_available_version": 1}),
    "delete": ("DELETE", "transit/keys/{}", None),
    "export": ("GET", "transit/export/encryption-key/{}", None),
    "back up": ("GET", "transit/backup/{}", None),
    "encrypt with another": ("POST", "transit/encrypt/other-{}", {"plaintext": "YQ=="}),
    "decrypt with another": ("POST", "transit/decrypt/other-{}", {"ciphertext": "vault:v1:AAAA"}),
    "change a policy": ("PUT", "sys/policies/acl/x", {"policy": ""}),
    "mount": ("POST", "sys/mounts/x", {"type": "kv"}),
    "disable the engine": ("DELETE", "sys/mounts/transit", None),
    "seal": ("PUT", "sys/seal", {}),
}


def token(bao: OpenBao, key: str, role: str) -> str:
    """A token that has the rendered policy of a role, and nothing else."""
    policy = rendered.policies(Account(bucket=key))[f"donjon-{role}"]
    bao.ask("PUT", f"sys/policies/acl/{role}-{key}", {"policy": policy})
    made = bao.ask(
        "POST", "auth/token/create", {"policies": [f"{role}-{key}"], "no_default_policy": True, "ttl": "1h"}
    )
    return str(made["auth"]["client_token"])


@pytest.mark.parametrize(("role", "allowed"), [("writer", {"encrypt"}), ("reader", {"decrypt"})])
def test_a_role_may_do_one_thing_with_its_key(bao: OpenBao, role: str, allowed: set[str]) -> None:
    key = bao.make_key()
    held = token(bao, key, role)
    done = set()
    for name, (method, path, data) in WAYS.items():
        try:
            ask(bao.address, held, method, path.format(key), data)
        except RuntimeError as error:
            if ": 403: " in str(error):
                continue
            if "vault:v1:AAAA" not in str(data):
                raise
            # It may, and the made-up seal does not open.
        done.add(name)
    assert done == allowed


def test_a_writer_seals_and_a_reader_opens(bao: OpenBao, host: Donjon, tmp_path: Path) -> None:
    key, source = bao.make_key(), tmp_path / "source"
    fill(source, 5, 1)
    places = {"BAO_ADDR": bao.address}
    writer, reader = (places | {"BAO_TOKEN": token(bao, key, role)} for role in ("writer", "reader"))
    uri = f"openbao:{bao.address}/transit/{key}"
    bare = host.without_kit()
    host.run("init", host.vault, "--kit", host.kit, "--lock", "none", "--key", uri, environment=writer)
    bare.run("backup", source, environment=writer)
    target = tmp_path / "restored"
    refused = bare.run("restore", f"latest:{source}", target, environment=writer, code=11)
    assert b"decrypt" in refused.stderr
    bare.run("restore", f"latest:{source}", target, environment=reader)
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
