"""The catalog of this installation, and the places that a plan names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from donjon.app.config import Home, KnownVault, Settings
from donjon.app.stores import normal_url
from donjon.app.wiring import Tell, Workspace
from donjon.catalog import schema
from donjon.catalog.database import PATIENCE_S, Catalog, open_database
from donjon.core.errors import IntegrityFailure, UsageError
from donjon.plan.model import IDENTITY_FIELDS, Credential, Plan, cloud_of
from donjon.repository.vault import Vault

#: Where the catalog is, if not in the home of this host.
CATALOG_VARIABLE = "DONJON_CATALOG"
#: How long a command waits that only shows something.
SHORT_PATIENCE_S = 3.0


def open_catalog(home: Home, environment: Mapping[str, str], *, patience_s: float = PATIENCE_S) -> Catalog:
    """The catalog of ``DONJON_CATALOG``, else of this home, upgraded if necessary.

    ``patience_s`` is how long to wait for a server that is being restarted.
    """
    catalog = open_database(environment.get(CATALOG_VARIABLE) or None, home.folder)
    catalog.patience_s = patience_s
    schema.upgrade(catalog)
    return catalog


def upgrade_catalog(home: Home, environment: Mapping[str, str]) -> tuple[str, str | None, str]:
    """Upgrade the catalog; its place, and its revision before and after."""
    catalog = open_database(environment.get(CATALOG_VARIABLE) or None, home.folder)
    before, after = schema.upgrade(catalog)
    return catalog.place, before, after


@dataclass(frozen=True, slots=True)
class Places:
    """The vaults of a plan, and how this host opens them. ``tell`` hears what a person should know."""

    settings: Settings
    plan: Plan
    tell: Tell

    def space(self, name: str) -> Workspace:
        """The workspace for a vault of the plan. Nobody is asked for anything."""
        chosen = replace(self.settings, vault=self.url(name), credential=self.credential(name))
        return Workspace(chosen, tell=self.tell)

    def credential(self, name: str) -> Credential | None:
        """Whom to be in the cloud of a vault of the plan; None where its SDK finds that by itself.

        Raises ``UsageError`` if the plan names a credential for the vault that says nothing for its address.
        """
        vault = self.plan.vaults[name]
        chosen = vault.credential or self.plan.sites[vault.site].credential
        if chosen is None:
            return None
        credential, cloud = self.plan.credentials[chosen], cloud_of(self.url(name))
        if vault.credential is not None and not (cloud and credential.fits(cloud)):
            msg = f"the vault {name!r}: its credential {chosen!r} says nothing for {self.url(name)}"
            field = IDENTITY_FIELDS.get(cloud or "")
            hint = f"Give it `{field}`, or leave it out." if field else "Leave it out."
            raise UsageError(msg, hint=hint)
        return credential

    def url(self, name: str) -> str:
        """The address of a vault of the plan. Raises ``UsageError`` if it is unknown here by that name."""
        known = Home(self.settings.home).select(self.plan.vaults[name].url)
        return known.url if isinstance(known, KnownVault) else normal_url(known).rstrip("/")

    def open(self, name: str) -> Vault:
        """A vault of the plan, without any key but those that the user named."""
        space = self.space(name)
        return space.open_for_reading() if space.has_key else space.open()

    def open_copy(self, name: str, vault_id: bytes) -> Vault:
        """The copy of a vault at a place. Raises ``IntegrityFailure`` if there is another vault."""
        opened = self.open(name)
        if opened.vault_id != vault_id:
            opened.store.close()
            msg = f"{opened.store.url}: is another vault ({opened.vault_id.hex()}) than the one copied there"
            raise IntegrityFailure(msg, hint="Find out who replaced it; the plan may name a wrong place.")
        return opened

    def of_workload(self, workload: str) -> list[str]:
        """The vault of a workload and those with copies of it. Raises ``UsageError`` if it has none."""
        rules = self.plan.rules(workload)
        if rules.vault is None:
            msg = f"{workload}: the plan names no vault for it"
            raise UsageError(msg, hint="Set `vault`, or let `defaults` do it.")
        return [rules.vault, *(name for name in rules.copies if name != rules.vault)]
