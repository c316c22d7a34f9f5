"""A host with a plan: one vault, a copy of it elsewhere, and applications with hooks that freeze them."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from donjon.app.catalog.opening import Places, open_catalog
from donjon.app.catalog.rebuild import rebuild
from donjon.app.config import Settings
from donjon.app.plans.files import plan_in_force
from donjon.app.plans.runs import Running, run_workload
from donjon.catalog import facts, points
from donjon.catalog.database import Catalog
from donjon.catalog.runs import Run
from donjon.cli.output import Output
from donjon.core.clock import Clock, system_clock
from donjon.core.events import StopCheck, never_stop
from donjon.plan.model import Plan
from tests.integration.cli import Donjon


@dataclass(frozen=True)
class Planned:
    """A host with a plan in its home."""

    donjon: Donjon

    @property
    def folder(self) -> Path:
        return self.donjon.folder

    @property
    def copy(self) -> Path:
        """The folder of the second place."""
        return self.folder / "copy"

    @property
    def file(self) -> Path:
        """The plan."""
        return self.donjon.home / "donjon.yaml"

    def source(self, workload: str) -> Path:
        return self.folder / "sources" / workload

    def frozen(self, workload: str) -> Path:
        """There while the application of a workload is at rest."""
        return self.folder / f"{workload}.frozen"

    def log(self, workload: str) -> list[str]:
        """What its hooks did."""
        path = self.folder / f"{workload}.log"
        return path.read_text().split() if path.exists() else []

    def hooks(
        self, workload: str, *, before: str = "", after: str = "", timeout: str = "30s"
    ) -> dict[str, Any]:
        """Hooks that freeze and thaw; ``before`` and ``after`` are more of the shell."""
        frozen, log = self.frozen(workload), self.folder / f"{workload}.log"
        return {
            "before": ["/bin/sh", "-c", f"echo before >> {log}; touch {frozen}; {before}:"],
            "after": ["/bin/sh", "-c", f"rm -f {frozen}; echo after >> {log}"],
            "timeout": timeout,
        }

    def fill(self, workload: str, seed: int = 1, files: int = 3) -> Path:
        """Give a workload some files."""
        folder = self.source(workload)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(files):
            (folder / f"f{number}").write_bytes(random.Random(f"{seed}{number}").randbytes(40_000))
        return folder

    def write(self, workloads: Mapping[str, Mapping[str, Any]], **defaults: Any) -> Path:
        """Write the plan: of each workload its rules; its source is its folder, if nothing else is said."""
        made = {}
        for name, rules in workloads.items():
            source = {"kind": "tree", "paths": [str(self.fill(name, seed=len(name)))]}
            made[name] = {"source": source, **rules}
        plan = {
            "version": 1,
            "name": "tests",
            "sites": {
                "here": {"provider": "on-premises", "account": "me", "region": "cellar"},
                "there": {"provider": "on-premises", "account": "you", "region": "attic"},
            },
            "vaults": {
                "main": {"url": self.donjon.vault.as_uri(), "site": "here", "medium": "disk"},
                "second": {"url": self.copy.as_uri(), "site": "there", "medium": "disk"},
            },
            "defaults": {"vault": "main", "copies": ["second"], **defaults},
            "workloads": made,
        }
        self.file.write_text(json.dumps(plan))  # YAML has all of JSON
        self.file.chmod(0o600)
        return self.file

    # -- without the command -----------------------------------------------------------------------

    def settings(self, *, kit: bool = False) -> Settings:
        return Settings(self.donjon.home, kit=self.donjon.kit if kit else None)

    def plan(self) -> tuple[Plan, bytes]:
        return plan_in_force(_home(self), self.file)

    def catalog(self, environment: Mapping[str, str] | None = None) -> Catalog:
        return open_catalog(_home(self), environment or {})

    def running(
        self,
        *,
        stop: StopCheck = never_stop,
        clock: Clock = system_clock,
        environment: Mapping[str, str] | None = None,
    ) -> Running:
        """What runs the plan in this process."""
        plan, digest = self.plan()
        show = Output(quiet=True).progress
        seen = environment or {"HOME": os.environ.get("HOME", "/")}
        return Running(self.settings(), seen, plan, digest, self.catalog(environment), clock, show, stop)

    def run(self, *workloads: str, environment: Mapping[str, str] | None = None) -> list[Run]:
        """Run workloads in this process."""
        running = self.running(environment=environment)
        return [run_workload(running, workload) for workload in workloads]

    def rebuild(self, catalog: Catalog, *, kit: bool = True) -> None:
        """Make a catalog anew."""
        rebuild(catalog, Places(self.settings(kit=kit), self.plan()[0], lambda _: None))

    def facts(self, catalog: Catalog) -> dict[str, Any]:
        """All rows that a rebuild has to bring back."""
        return {
            "points": points.list_points(catalog),
            "copies": points.list_copies(catalog),
            "evidence": facts.list_evidence(catalog),
            "snapshots": facts.list_snapshots(catalog),
        }


def _home(planned: Planned) -> Any:
    from donjon.app.config import Home

    return Home(planned.donjon.home)
