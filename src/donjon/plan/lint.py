"""What no single part of a plan can tell: whether its parts fit each other."""

from __future__ import annotations

from collections.abc import Iterator

from donjon.plan import lint_places, lint_times
from donjon.plan.lint_selectors import overlaps
from donjon.plan.model import IDENTITY_FIELDS, Plan, Rules, cloud_of
from donjon.plan.problems import Finding, Path, shown


def lint(plan: Plan) -> Iterator[Finding]:
    """Everything that is wrong with a plan whose parts are valid by themselves."""
    yield from _references(plan)
    yield from _credentials(plan)
    yield from lint_places.vaults(plan)
    for name in plan.workloads:
        yield from lint_places.places(plan, name)
        yield from lint_times.times(plan, name)
    yield from overlaps(plan)
    yield from _unused(plan)


def _references(plan: Plan) -> Iterator[Finding]:
    """Names of things that the plan does not have."""
    for path, section, name in _all_references(plan):
        if name not in getattr(plan, section):
            kind = section.removesuffix("s")
            known = ", ".join(sorted(getattr(plan, section)))
            hint = f"Known are {known}." if known else ""
            yield Finding(
                f"unknown-{kind}", path, f"there is no {kind} {name!r}", hint, needs=(section, name)
            )


def _all_references(plan: Plan) -> Iterator[tuple[Path, str, str]]:
    """Where something is named, in which section it should be, and its name."""
    for name, site in plan.sites.items():
        yield from _named(("sites", name), "credentials", credential=site.credential)
    for name, vault in plan.vaults.items():
        yield from _named(("vaults", name), "sites", site=vault.site)
        yield from _named(("vaults", name), "credentials", credential=vault.credential)
    for name, credential in plan.credentials.items():
        yield from _named(("credentials", name), "vaults", vault=credential.vault)
    yield from _of_rules(("defaults",), plan.defaults)
    for name, workload in plan.workloads.items():
        yield from _of_rules(("workloads", name), workload)


def _of_rules(path: Path, rules: Rules) -> Iterator[tuple[Path, str, str]]:
    yield from _named(path, "sites", site=rules.site)
    yield from _named(path, "vaults", vault=rules.vault)
    for number, name in enumerate(rules.copies):
        yield (*path, "copies", number), "vaults", name
    for number, name in enumerate(rules.snapshots.copy_to if rules.snapshots else ()):
        yield (*path, "snapshots", "copy_to", number), "sites", name


def _named(path: Path, section: str, **fields: str | None) -> Iterator[tuple[Path, str, str]]:
    for field, name in fields.items():
        if name is not None:
            yield (*path, field), section, name


def _credentials(plan: Plan) -> Iterator[Finding]:
    """Credentials that are not of the provider where they are used."""
    for name, site in plan.sites.items():
        yield from _fits(plan, ("sites", name, "credential"), site.credential, site.provider)
    for name, vault in plan.vaults.items():
        if vault.site in plan.sites:
            path = ("vaults", name, "credential")
            is_address = "://" in vault.url  # else a name, of which this host alone knows the address
            provider = cloud_of(vault.url) if is_address else plan.sites[vault.site].provider
            yield from _fits(plan, path, vault.credential, provider or "on-premises")


def _fits(plan: Plan, path: Path, name: str | None, provider: str) -> Iterator[Finding]:
    credential = plan.credentials.get(name or "")
    if credential is None or credential.fits(provider):
        return
    message = f"the credential {name!r} has nothing for {provider}"
    wanted = IDENTITY_FIELDS.get(provider)
    hint = f"Give it `{wanted}`." if wanted else "What is on premises takes none, but for S3."
    yield Finding("wrong-credential", path, message, hint, needs=("credentials", name or ""))


def _unused(plan: Plan) -> Iterator[Finding]:
    used = {(section, name) for _, section, name in _all_references(plan)}
    for section in ("credentials", "sites", "vaults"):
        for name in getattr(plan, section):
            is_checked = section == "credentials" and plan.credentials[name].service is not None
            if (section, name) not in used and not is_checked:
                message = f"nothing uses {shown((section, name))}"
                yield Finding("unused", (section, name), message, at_key=True)
