"""What opening and starting a session costs beside a key service's own time.

The services are real ones on this machine: OpenBao, and a token of SoftHSM2. The same request is made by
their own client alone and through Donjon, on a vault in memory, so that what is left over is Donjon's.
Loading a service's client is told apart: it happens once a command.
"""

from __future__ import annotations

import base64
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import hvac
import pkcs11

from donjon.codec.sign import SigningKey
from donjon.core.clock import system_clock
from donjon.format.vault import session_info
from donjon.keys.address import KeyAddress, service_recipient
from donjon.keys.base import recipient_id
from donjon.keys.openbao import TransitKey
from donjon.keys.pkcs11 import TokenAddress
from donjon.keys.recovery import RecoveryKit
from donjon.keys.services import KeyServices
from donjon.repository.cache import Cache
from donjon.repository.creation import create_vault
from donjon.repository.keyring import vault_id_of
from donjon.repository.records import writer_record
from donjon.repository.vault import Vault, open_vault
from donjon.repository.writing import WriteSession
from donjon.stores.memory import MemoryStore
from donjon.testing.servers.openbao import OpenBao, openbao
from donjon.testing.servers.softhsm import SoftHsm, make_softhsm

_ROUNDS: Final = 50
_MODULES: Final = ("boto3", "hvac", "pkcs11", "azure.keyvault.keys", "google.cloud.kms_v1")
#: What is wanted: opening a session costs at most this beside the service's own time.
_WANTED_MS: Final = 50.0


def main() -> int:
    """Measure, and print a table; 1 if it takes longer than wanted."""
    print(f"{'service':<10} {'its own':>9} {'opening':>9} {'beside it':>9} {'starting':>9}   (ms, median)")
    worst = 0.0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "bao").mkdir()
        (folder / "hsm").mkdir()
        server = stack.enter_context(openbao(folder / "bao"))
        os.environ.update(BAO_ADDR=server.address, BAO_TOKEN=server.root_token)
        transit = TransitKey(server.address, "transit", server.make_key())
        worst = max(worst, _measure("openbao", transit, _raw_openbao(server, transit), folder))
        hsm = make_softhsm(folder / "hsm", 1)
        os.environ.update(hsm.environment)
        token = TokenAddress(hsm.tokens[0], "bench")
        worst = max(worst, _measure("pkcs11", token, _raw_pkcs11(hsm, token), folder))
    print("\nloading a client, once a command:")
    for module in _MODULES:
        print(f"  {module:<22} {_import_ms(module):>6.0f} ms")
    print(f"\nbeside the service: {worst:.1f} ms at most; wanted: under {_WANTED_MS:.0f} ms")
    return 0 if worst < _WANTED_MS else 1


def _measure(name: str, key: KeyAddress, raw: Callable[[], Callable[[], object]], folder: Path) -> float:
    """Print the row of one service; how long opening a session takes beside it."""
    root, writer = SigningKey.generate(), SigningKey.generate()
    store, who = MemoryStore(), recipient_id(writer.public)
    recipient = service_recipient(key, name, 1)
    services = KeyServices(os.environ)
    own = raw()
    kit = RecoveryKit.generate(
        vault_id=vault_id_of(root.public), vault_name="v", vault_url="memory:", created_at=1, with_root=True
    )

    def certify(vault: Vault) -> None:
        vault.keyring.add(
            store, root, lambda n, p: writer_record(writer.public, "w", vault.secret, 1, n, p), None
        )

    create_vault(
        store,
        vault_id_of(root.public),
        root,
        [kit.recipient("kit"), recipient],
        lock_s=0,
        before_commit=certify,
        connect=services,
    )
    reader = open_vault(store, connect=services)
    reader.use_opener(services(recipient))

    def start() -> None:
        vault = open_vault(store, connect=services)
        vault.use_secret(reader.secret)
        WriteSession(vault, writer, who, Cache(folder / name), system_clock).close()

    starting = _median_ms([start] * _ROUNDS)
    opening = _median_ms([partial(reader.session_key, who, n) for n in range(1, _ROUNDS + 1)])
    alone = _median_ms([own] * _ROUNDS)
    print(f"{name:<10} {alone:>9.1f} {opening:>9.1f} {opening - alone:>9.1f} {starting:>9.1f}")
    return opening - alone


def _median_ms(calls: list[Callable[[], object]]) -> float:
    """How long the calls take, one after the other."""
    taken = []
    for call in calls:
        start = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


def _raw_openbao(server: OpenBao, key: TransitKey) -> Callable[[], Callable[[], object]]:
    """The same request by the client of the service alone."""

    def ready() -> Callable[[], object]:
        transit = hvac.Client(url=server.address, token=server.root_token).secrets.transit
        info = base64.b64encode(session_info(bytes(16), bytes(16), 1)).decode()
        secret = base64.b64encode(bytes(32)).decode()
        sealed = transit.encrypt_data(key.key, secret, associated_data=info)["data"]["ciphertext"]
        return lambda: transit.decrypt_data(key.key, sealed, associated_data=info)

    return ready


def _raw_pkcs11(hsm: SoftHsm, key: TokenAddress) -> Callable[[], Callable[[], object]]:
    """The same request by the library of the token alone; makes the key first."""

    def ready() -> Callable[[], object]:
        token = pkcs11.lib(hsm.environment["DONJON_PKCS11_MODULE"]).get_token(token_label=key.token)
        session = token.open(rw=True, user_pin=hsm.pin)
        pair: tuple[Any, Any] = session.generate_keypair(
            pkcs11.KeyType.RSA, 2048, label=key.label, store=True
        )
        public, private = pair
        oaep = {
            "mechanism": pkcs11.Mechanism.RSA_PKCS_OAEP,
            "mechanism_param": (pkcs11.Mechanism.SHA_1, pkcs11.MGF.SHA1, None),
        }
        sealed = public.encrypt(bytes(80), **oaep)
        return lambda: private.decrypt(sealed, **oaep)

    return ready


def _import_ms(module: str) -> float:
    """How long a fresh process takes to load a module, without its own start."""
    script = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    done = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    return 1000 * min(map(float, done))
