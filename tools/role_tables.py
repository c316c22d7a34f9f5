"""Write the tables of docs/roles.md that follow from the model of the roles and from what is rendered."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import partial

from donjon.roles.model import ROLES, Role
from donjon.roles.permissions import KEYS, STORES, key_permissions, store_grants
from donjon.roles.render import RENDERERS
from donjon.roles.skips import SKIPPED
from tools.links import ROOT

PATH = ROOT / "docs/roles.md"
_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
_PLACE = r"<!-- made: {name} -->\n.*?<!-- end -->"


def roles_table() -> str:
    """The five roles in words."""
    rows = [f"| **{role.name}** | {role.does} | {role.cannot} |" for role in ROLES]
    return "\n".join(["| role | does | cannot |", "|---|---|---|", *rows])


def permissions_table(cloud: str) -> str:
    """What each role has in a cloud, and where."""
    rows = [f"| {role.name} | {where} | {what} |" for role in ROLES for where, what in _grants(cloud, role)]
    return "\n".join(["| role | on | permissions |", "|---|---|---|", *rows])


def _grants(cloud: str, role: Role) -> list[tuple[str, str]]:
    assert cloud in STORES  # noqa: S101 - a slip in this file
    rows = []
    for grant in store_grants(cloud, role, "WRITER"):
        where = ", ".join(f"`{name}`" for name in grant.objects) or "the bucket"
        rows.append((where, _named(grant.permissions)))
    if cloud in KEYS and (found := key_permissions(cloud, role)):
        rows.append(("the key", _named(found)))
    return rows


def _named(permissions: tuple[str, ...]) -> str:
    return ", ".join(f"`{permission.replace(_BLOBS, 'blobs')}`" for permission in permissions)


def formats_table() -> str:
    """What can be rendered."""
    forms: dict[str, list[str]] = {}
    for cloud, form in RENDERERS:
        forms.setdefault(cloud, []).append(f"`{form}`")
    rows = [f"| `{cloud}` | {', '.join(found)} |" for cloud, found in forms.items()]
    return "\n".join(["| `--cloud` | `--format` |", "|---|---|", *rows])


def skips_table() -> str:
    """Rules of checkov that are knowingly not met."""
    rows = [f"| {rule} | {reason} |" for rule, reason in SKIPPED.items()]
    return "\n".join(["| rule | why it is not met |", "|---|---|", *rows])


TABLES: Mapping[str, Callable[[], str]] = {
    "roles": roles_table,
    "formats": formats_table,
    **{cloud: partial(permissions_table, cloud) for cloud in ("aws", "azure", "gcp")},
    "skips": skips_table,
}


def filled(text: str) -> str:
    """The document with all tables made anew. Raises ``ValueError`` if it has no place for one."""
    for name, table in TABLES.items():
        pattern = re.compile(_PLACE.format(name=name), re.DOTALL)
        if not pattern.search(text):
            raise ValueError(name)
        before, after = pattern.split(text)[0], pattern.split(text)[-1]
        text = f"{before}<!-- made: {name} -->\n\n{table()}\n\n<!-- end -->{after}"
    return text


def main() -> int:
    """Write the document."""
    PATH.write_text(filled(PATH.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"Wrote {PATH.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
