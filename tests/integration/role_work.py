"""All that the five roles do with one vault, by the real command and with nothing but their own credentials.

The stage is a cloud: it gives each role a host that holds its credential, and lets days pass.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from donjon.roles.model import ROLES, Role
from donjon.roles.permissions import Grant
from donjon.testing.folders import remove_tree
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon
from tests.integration.engine import fill

LOCK = "30d"
_PUT_EVIDENCE = """
import sys
from pathlib import Path
from donjon.app.wiring import open_vault_at
from donjon.format.evidence import EvidenceRow, Outcome
from donjon.repository.credential import read_signer
from donjon.repository.evidence import put_evidence, sign_evidence

vault = open_vault_at(sys.argv[1])
key = read_signer(Path(sys.argv[2])).signing_key
rows = [EvidenceRow("look", "object", "object", "", Outcome.PASSED)]
put_evidence(vault, sign_evidence(vault, key, kind="test", program="test", subject="a test", rows=rows))
"""


@dataclass(frozen=True)
class Asked:
    """One request: whose role, what it takes, the object's name in the vault (empty: the bucket)."""

    role: str
    permission: str
    name: str
    allowed: bool


class Stage(ABC):
    """A vault in a cloud whose roles have been rendered and deployed."""

    #: Where the vault is, for everybody.
    url: str
    folder: Path
    #: Whether a key of the cloud's key service opens the vault.
    opens_by_key = False

    @abstractmethod
    def host(self, role: str, days: int = 0, folder: str = "") -> Donjon:
        """A host with the credential of a role (``administrator`` for who made it all), some days later."""

    @abstractmethod
    def enrolled(self, writer: str) -> None:
        """Deploy the policies of a writer, now that its id is known."""

    def key_options(self) -> tuple[str, ...]:
        """What opens the vault beside the first kit, as `init` wants it: a key of this cloud, or a kit."""
        return ("--second-kit", str(self.folder / "spare.kit"))

    @abstractmethod
    def asked(self) -> Iterable[Asked]:
        """Every request so far."""


@dataclass
class Work:
    """The work itself, in the order in which days pass.

    Commands that ask a store for what others ask for too are run where ``is_thorough`` alone.
    """

    stage: Stage
    is_thorough: bool = True
    writer: str = ""

    #: What readers and auditors look at besides.
    others = (("stats",), ("verify",))

    @property
    def source(self) -> Path:
        return self.stage.folder / "source"

    @property
    def admin(self) -> Donjon:
        return self.stage.host("administrator")

    def all_of_it(self) -> None:
        """Everything."""
        self.make_the_vault()
        self.back_up()
        self.look_after_it()
        self.give_a_point_up()
        self.read_as("reader")
        self.read_as("auditor")
        self.extend()
        self.reap()
        self.restore_what_is_left()

    def make_the_vault(self) -> None:
        admin, folder = self.admin, self.stage.folder
        together(admin, *(("approver", "new", name, "--out", folder / name) for name in ("ann", "bo")))
        approvers = [part for name in ("ann", "bo") for part in ("--approver", folder / f"{name}.pub")]
        init = ("init", self.stage.url, "--kit", admin.kit, "--lock", LOCK, "--no-writer")
        admin.run(*init, *approvers, "--approvals", "2", *self.stage.key_options())
        self.writer = admin.json("writer", "add", "web1", "--out", folder / "web1.writer")["id"]
        self.stage.enrolled(self.writer)
        for kind in ("custodian", "auditor"):
            admin.run(kind, "add", f"my-{kind}", "--out", folder / f"safe.{kind}")

    def back_up(self) -> None:
        fill(self.source, 25, 1, size_bytes=20_000)
        host = self.stage.host("writer")
        host.run("enrol", self.stage.folder / "web1.writer")
        host.run("backup", self.source)
        for path in self.source.rglob("f*"):
            if path.is_file():
                path.write_bytes(path.name.encode() * 4000)
        host.run("backup", self.source)
        shutil.rmtree(host.home / "cache")  # then it finds its own by their names, without listing
        host.run("backup", self.source)
        host.run("credentials", "rotate", "writer")
        shutil.rmtree(host.home / "cache")  # then it asks when what the key before signed was put
        host.run("backup", self.source)
        self._name_a_key(host)
        # One more kit; earlier sessions are sealed to it later, which makes objects of another kind.
        self.admin.run("keys", "add", "kit", "--name", "second", "--out", self.stage.folder / "second.kit")

    def _name_a_key(self, host: Donjon) -> None:
        """Approvers let a new key sign for the writer; its host asks then when the last point came."""
        admin, folder = self.admin, self.stage.folder
        asked = admin.json(
            "writer", "rekey", "web1", "--last", "latest", "--out", folder / "new.writer", code=11
        )
        together(
            admin, *(("approve", "sign", asked["id"], "--key", folder / n, "--yes") for n in ("ann", "bo"))
        )
        admin.run("approve", "apply", asked["id"], "--credential", folder / "new.writer")
        host.run("enrol", folder / "new.writer")
        shutil.rmtree(host.home / "cache")
        host.run("backup", self.source)

    def look_after_it(self) -> None:
        host, credential = self.stage.host("custodian"), self.stage.folder / "safe.custodian"
        host.run("custody", "plan", "--vault", self.stage.url)
        checkpoint = ("custody", "checkpoint", "--vault", self.stage.url, "--credential", credential)
        host.run(*checkpoint, "--to", self.stage.url)

    def give_a_point_up(self) -> None:
        """Approvers ask, sign and carry out, where the vault is looked after."""
        host, url = self.stage.host("custodian"), ("--vault", self.stage.url)
        oldest = self.admin.json("points")["points"][0]["id"]
        keys = [("--key", self.stage.folder / name) for name in ("ann", "bo")]
        asked = host.json("deletion", "request", oldest, *keys[0], *url)["id"]
        together(host, *(("approve", "sign", asked, *key, "--yes", *url) for key in keys))
        host.run("approve", "apply", asked, *url)

    def read_as(self, role: str) -> None:
        """Everything that reads; the reader has a kit, the auditor none."""
        host, url = self.stage.host(role), ("--vault", self.stage.url)
        others = self.others if self.is_thorough else ()
        together(host, *((*command, *url) for command in (("points",), ("deletion", "list"), *others)))
        copy = host.folder / "copy"
        host.run("copy", "--to", copy, *url)
        remove_tree(copy)
        if role == "auditor":
            host.run("custody", "plan", *url)
            self._put_evidence(host)
            code = 11 if self.stage.opens_by_key else 13  # refused by the key service, or no key at all
            host.run("restore", f"latest:{self.source}", host.folder / "stolen", *url, code=code)
            return
        host.run("verify", "--data", "100", *url)
        if self.is_thorough:
            self._look_at_everything(host)
        self._restore(host)

    def _look_at_everything(self, host: Donjon) -> None:
        url = ("--vault", self.stage.url)
        file = next(path for path in self.source.rglob("f*") if path.is_file() and path.stat().st_size)
        first, second = (point["id"] for point in host.json("points", *url)["points"][:2])
        together(
            host,
            ("keys", "check", *url),
            ("retention", "preview", "--keep", "last=1", *url),
            *((group, "list", *url) for group in ("keys", "writer", "custodian", "approver", "auditor")),
            ("ls", f"latest:{self.source}", *url),
            ("find", file.name, *url),
            ("dump", f"latest:{file}", *url),
            ("diff", first, second, *url),
        )

    def _put_evidence(self, host: Donjon) -> None:
        """What a drill does at its end."""
        command = (sys.executable, "-c", _PUT_EVIDENCE, self.stage.url, self.stage.folder / "safe.auditor")
        done = subprocess.run(command, env=host.environment(), capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        host.run("evidence", "list", "--vault", self.stage.url)

    def _restore(self, host: Donjon) -> None:
        target = host.folder / "restored"
        host.run("restore", f"latest:{self.source}", target, "--vault", self.stage.url)
        assert compare_trees(os.fsencode(self.source), os.fsencode(target)) == []
        shutil.rmtree(target)

    def extend(self) -> None:
        credential = self.stage.folder / "safe.custodian"
        command = ("custody", "extend", "--vault", self.stage.url, "--credential", credential)
        keep = ("--keep", "last=1")
        for day, further in ((10, ("--look-first",)), (25, ()), (40, ())):
            done = self.stage.host("custodian", day).json(*command, *keep, *further)["done"]
            assert (done["lock_debt"], done["failed"]) == (0, [])
            assert done["objects"] > 0
        host = self.stage.host("writer", 41)
        shutil.rmtree(host.home / "cache")
        host.run("backup", self.source)  # relies on locks that an epoch object tells

    def reap(self) -> None:
        plan, keep = self.stage.folder / "reap.plan", ("--keep", "last=1")
        url = ("--vault", self.stage.url)
        host = self.stage.host("reaper", 42)
        made = host.json("custody", "reap", "plan", *keep, "--out", plan, *url)
        assert made["packs"] > 0
        credential = self.stage.folder / "safe.custodian"
        self.stage.host("custodian", 49).run("custody", "extend", "--credential", credential, *keep, *url)
        done = self.stage.host("reaper", 50).json("custody", "reap", "apply", plan, *url)
        assert (done["deleted"], done["kept"]) == (made["objects"], [])

    def restore_what_is_left(self) -> None:
        host = self.stage.host("reader", 50)
        assert host.json("verify", "--data", "100", "--vault", self.stage.url)["ok"]
        self._restore(host)


def together(host: Donjon, *commands: tuple[str | Path, ...]) -> None:
    """Run commands that do not need each other at the same time: most of their time is waiting."""
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(host.run, *command) for command in commands]:
            done.result()


def unused(role: Role, grants: Iterable[Grant], asked: Iterable[Asked]) -> set[str]:
    """What a role is granted and did not use: ``permission on name``."""
    done = [one for one in asked if one.role == role.name and one.allowed]
    return {
        f"{permission} on {where or 'the bucket'}"
        for grant in grants
        for where in grant.objects or ("",)
        for permission in grant.permissions
        if not any(one.permission == permission and covers(where, one.name) for one in done)
    }


def missing(role: Role, grants: Iterable[Grant], asked: Iterable[Asked]) -> set[str]:
    """What a role did without being granted it."""
    granted = list(grants)
    return {
        f"{one.permission} on {one.name or 'the bucket'}"
        for one in asked
        if one.role == role.name
        and one.allowed
        and not any(
            one.permission in grant.permissions
            and any(covers(where, one.name) for where in grant.objects or ("",))
            for grant in granted
        )
    }


def covers(where: str, name: str) -> bool:
    """Whether a name of a grant stands for this object."""
    return name.startswith(where[:-1]) and bool(name) if where.endswith("*") else where == name


def role_named(name: str) -> Role:
    """One of the five."""
    return next(role for role in ROLES if role.name == name)
