"""A container of Azure and a bucket of Google Cloud behind our fakes, which judge by the rendered roles."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from donjon.roles.account import Account
from donjon.roles.render import render
from donjon.testing.azure import roles as azure_roles
from donjon.testing.azure.account import ACCOUNT, KEY, azure, azurite
from donjon.testing.callers import CalledFront, Caller, Door
from donjon.testing.front import serving
from donjon.testing.google import roles as gcp_roles
from donjon.testing.google.bucket import fake_gcs_server, gcs
from tests.clouds import new_bucket, new_container
from tests.integration.cli import Donjon
from tests.integration.role_work import Asked, Stage

DAY = 86_400
PEOPLE = ("reader", "custodian", "reaper", "auditor")


@dataclass(frozen=True)
class AtDoor(Donjon):
    """A host that reaches the cloud through its own door."""

    variables: tuple[tuple[str, str], ...] = ()

    def environment(self) -> dict[str, str]:
        return super().environment() | dict(self.variables)


@dataclass
class FakeStage(Stage):
    """A vault whose roles are those of a rendered account."""

    folder: Path
    account: Account
    cloud: str
    url: str
    front: CalledFront
    admin_address: str
    variables: Callable[[str], Mapping[str, str]]
    stack: contextlib.ExitStack
    days: int = 0
    doors: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.front.clock = lambda: int(time.time()) + self.days * DAY
        self._open_doors()

    def _open_doors(self) -> None:
        """A new door for everybody, judged by what is rendered now."""
        rendered = json.loads(render(self.cloud, "json", self.account))
        for who, principal in self.account.principals:
            role = who if who in PEOPLE else "writer"
            caller: Caller
            if self.cloud == "azure":
                caller = azure_roles.caller_of(rendered, role, principal)
            else:
                caller = gcp_roles.caller_of(rendered, role, principal, self.account.bucket)
            door = Door(self.front, caller)
            door.address = self.doors[role] = self.stack.enter_context(serving(door))

    def host(self, role: str, days: int = 0, folder: str = "") -> Donjon:
        """See the stage."""
        self.days = days
        place = self.folder / (folder or role)
        place.mkdir(exist_ok=True)
        address = self.admin_address if role == "administrator" else self.doors[role]
        has_kit = role in {"administrator", "reader"}
        host = AtDoor(place, has_kit=has_kit, variables=tuple(self.variables(address).items()))
        if role == "reader" and not host.kit.exists():
            host.kit.write_bytes((self.folder / "administrator" / "vault.kit").read_bytes())
        return host.later(days)

    def enrolled(self, writer: str) -> None:
        """See the stage."""
        identity = _identity(self.cloud, 1)
        principals = (*self.account.principals, (writer, identity))
        self.account = replace(self.account, writers=(writer,), principals=principals)
        self._open_doors()

    def asked(self) -> Iterable[Asked]:
        """See the stage."""
        prefix = f"{self.account.prefix}/"
        for judged in self.front.judged:
            name = judged.ask.name.removeprefix(prefix)
            yield Asked(judged.caller, judged.ask.permission, name, judged.allowed)


def _identity(cloud: str, number: int) -> str:
    if cloud == "azure":
        return f"{number:08d}-0000-0000-0000-000000000000"
    return f"serviceAccount:s{number}@acme.example"


def _account(cloud: str, bucket: str) -> Account:
    principals = tuple((role, _identity(cloud, number)) for number, role in enumerate(PEOPLE, 2))
    owner = _identity("azure", 0) if cloud == "azure" else "acme-vault-1"
    storage = ACCOUNT if cloud == "azure" else ""
    return Account(
        bucket=bucket,
        prefix="prod",
        owner=owner,
        storage_account=storage,
        principals=principals,
        break_glass="" if cloud == "azure" else "principal://goog/subject/glass@acme.example",
    )


@contextlib.contextmanager
def azure_stage(folder: Path) -> Iterator[FakeStage]:
    """Azurite behind the front."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(azurite())
        front, connection = stack.enter_context(azure(port, lambda: int(time.time())))
        container = new_container(front)
        address = connection.partition("BlobEndpoint=")[2].removesuffix(f"/{ACCOUNT};")

        def variables(at: str) -> Mapping[str, str]:
            told = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            return {"AZURE_STORAGE_CONNECTION_STRING": f"{told}BlobEndpoint={at}/{ACCOUNT};"}

        url = f"azure://{ACCOUNT}/{container}/prod"
        account = _account("azure", container)
        yield FakeStage(folder, account, "azure", url, front, address, variables, stack)


@contextlib.contextmanager
def gcp_stage(folder: Path) -> Iterator[FakeStage]:
    """fake-gcs-server behind the front."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(fake_gcs_server())
        front, client = stack.enter_context(gcs(port, lambda: int(time.time())))
        bucket = new_bucket(client)

        def variables(at: str) -> Mapping[str, str]:
            return {"STORAGE_EMULATOR_HOST": at, "GOOGLE_CLOUD_PROJECT": "test"}

        account = _account("gcp", bucket)
        yield FakeStage(folder, account, "gcp", f"gs://{bucket}/prod", front, front.address, variables, stack)
