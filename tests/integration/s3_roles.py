"""The policies that are rendered for a server that speaks S3, and hosts that hold nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from donjon.roles.account import Account
from donjon.roles.render import render
from donjon.testing.aws.people import User
from donjon.testing.aws.seaweedfs import SeaweedFs
from tests.integration.cli import Donjon

PREFIX = "prod"


def policy(role: str, bucket: str, writer: str = "") -> dict[str, Any]:
    """The policy of a role, for a bucket and the id of a writer."""
    name = f"donjon-{role}-{writer[:12]}" if role == "writer" else f"donjon-{role}"
    made: dict[str, Any] = rendered(bucket, writer)["users"][name]
    return made


def rendered(bucket: str, writer: str = "") -> dict[str, Any]:
    """What `donjon roles render --cloud s3` prints."""
    account = Account(bucket=bucket, prefix=PREFIX, writers=(writer,) if writer else ())
    made: dict[str, Any] = json.loads(render("s3", "json", account))
    return made


@dataclass(frozen=True)
class As(Donjon):
    """A host whose credential for the store is that of one user."""

    user: User | None = None

    def environment(self) -> dict[str, str]:
        """What the command sees."""
        assert self.user is not None
        return super().environment() | self.user.environment


@dataclass(frozen=True)
class Roles:
    """A vault that the administrator made, and a host for each role."""

    server: SeaweedFs
    bucket: str
    admin: Donjon
    endpoint: str

    @classmethod
    def make(cls, server: SeaweedFs, admin: Donjon, endpoint: str | None = None) -> Roles:
        """A new bucket with a vault in it, which is reached at ``endpoint``."""
        bucket = f"roles{server.make_bucket()}"
        roles = cls(server, bucket, admin, endpoint or server.endpoint)
        admin.run(
            "init",
            "--single-recipient",
            roles.url,
            "--create",
            "--kit",
            admin.kit,
            "--lock",
            "30d",
            "--no-writer",
        )
        return roles

    @property
    def url(self) -> str:
        """The address of the vault."""
        return f"s3://{self.bucket}/{PREFIX}?endpoint={self.endpoint}"

    def user(self, role: str, writer: str = "") -> User:
        """A new user who has the policy of this role, and nothing else."""
        return self.server.make_user(policy(role, self.bucket, writer))

    def writer(self, name: str) -> As:
        """A host that is enrolled, with a credential for the store that only writes."""
        file = self.admin.folder / f"{name}.writer"
        made = self.admin.json("writer", "add", name, "--out", file)
        host = self._host(name, self.user("writer", made["id"]))
        host.run("enrol", file)
        return replace(host, has_kit=False)

    def reader(self) -> As:
        """A host that has the kit, and may read."""
        host = self._host("reader", self.user("reader"))
        host.kit.write_bytes(self.admin.kit.read_bytes())
        return host

    def _host(self, name: str, user: User) -> As:
        folder = self.admin.folder / name
        folder.mkdir()
        return As(folder, user=user)
