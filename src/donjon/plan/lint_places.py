"""Whether places fit: vaults, copies, sites, and what shares the fate of production."""

from __future__ import annotations

import re
from collections.abc import Iterator

from donjon.core.addresses import split_address
from donjon.core.errors import UsageError
from donjon.plan.model import Plan, Rules, Site
from donjon.plan.problems import Finding, Path
from donjon.plan.said import where

_SCHEMES = {"azure", "file", "gs", "s3", "sftp"}
#: Schemes of buckets, and whose they are; S3 is spoken everywhere.
BUCKETS = {"azure": "azure", "gs": "gcp", "s3": None}
_PROVIDERS = {"ebs": "aws", "azure-disk": "azure", "gce-disk": "gcp"}


def vaults(plan: Plan) -> Iterator[Finding]:
    """What is wrong with the vaults by themselves."""
    seen: dict[str, str] = {}
    for name, vault in plan.vaults.items():
        path = ("vaults", name, "url")
        scheme = scheme_of(vault.url)
        if scheme is not None and scheme not in _SCHEMES:
            hint = f"Donjon has {', '.join(f'{known}://' for known in sorted(_SCHEMES))}."
            yield Finding("bad-url", path, f"there is no store for {scheme}://", hint)
        yield from _parts(vault.url, path)
        url = vault.url.rstrip("/")
        if url in seen:
            message = f"{name!r} and {seen[url]!r} are the same vault"
            yield Finding("same-url", path, message, needs=("vaults", seen[url]))
        seen.setdefault(url, name)


def places(plan: Plan, name: str) -> Iterator[Finding]:
    """What is wrong with the places of one workload."""
    rules = plan.rules(name)
    yield from _copies(plan, name, rules)
    yield from _provider(plan, name, rules)
    yield from _bucket(plan, name, rules)
    yield from _snapshot_copies(plan, name, rules)
    yield from _fate(plan, name, rules)


def scheme_of(url: str) -> str | None:
    """``s3`` of ``s3://bucket``; None for a path or a name."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return match[1].lower() if match else None


def _parts(url: str, path: Path) -> Iterator[Finding]:
    """An address with a host or a port that can be none."""
    if scheme_of(url) is None:
        return
    try:
        split_address(url)
    except UsageError as error:
        yield Finding("bad-url", path, str(error), error.hint or "")


def _copies(plan: Plan, name: str, rules: Rules) -> Iterator[Finding]:
    if rules.vault is None:
        at = ("workloads", name)
        if rules.copies:
            yield Finding("copies-without-vault", where(plan, name, "copies"), "no vault to copy from")
        elif rules.snapshots is None:
            yield Finding("no-vault", at, "is backed up nowhere: it has no vault", at_key=True)
        else:
            yield Finding("snapshots-only", at, "has snapshots alone, and no vault", at_key=True)
    seen = {rules.vault}
    for number, copy in enumerate(rules.copies):
        if copy in seen:
            said = "is copied into itself" if copy == rules.vault else "gets two copies"
            yield Finding("copy-to-itself", where(plan, name, "copies", number), f"the vault {copy!r} {said}")
        seen.add(copy)


def _provider(plan: Plan, name: str, rules: Rules) -> Iterator[Finding]:
    """A disk of one cloud at a site of another, or at no site."""
    source, site = plan.workloads[name].source, plan.sites.get(rules.site or "")
    if rules.site is None:
        yield Finding("no-site", ("workloads", name), "nobody knows where it is", at_key=True)
    wanted = _PROVIDERS.get(source.kind)
    if source.kind == "bucket":
        scheme, path = scheme_of(source.url), ("workloads", name, "source", "url")
        yield from _parts(source.url, path)
        if scheme not in BUCKETS:
            hint = "Write s3://bucket/prefix, azure://account/container/prefix or gs://bucket/prefix."
            yield Finding("bad-url", path, f"{source.url!r} is no address of a bucket", hint)
            return
        wanted = BUCKETS[scheme]
    if site is not None and wanted is not None and site.provider != wanted:
        message = f"the site {rules.site!r} is of {site.provider}, and this is of {wanted}"
        yield Finding("wrong-provider", where(plan, name, "site"), message)


def _bucket(plan: Plan, name: str, rules: Rules) -> Iterator[Finding]:
    """A bucket that holds a vault that it is backed up to."""
    source = plan.workloads[name].source
    if source.kind != "bucket":
        return
    for vault in (rules.vault, *rules.copies):
        if vault in plan.vaults and vault is not None and is_within(plan.vaults[vault].url, source.url):
            path = ("workloads", name, "source", "url")
            yield Finding("backs-up-vault", path, f"the vault {vault!r} is in what is backed up to it")


def is_within(inner: str, outer: str) -> bool:
    """Whether one path or address is the same as another one, or below it."""
    inner, outer = inner.rstrip("/") + "/", outer.rstrip("/") + "/"
    return inner.startswith(outer)


def _snapshot_copies(plan: Plan, name: str, rules: Rules) -> Iterator[Finding]:
    site = plan.sites.get(rules.site or "")
    for number, copy in enumerate(rules.snapshots.copy_to if rules.snapshots else ()):
        target, path = plan.sites.get(copy), where(plan, name, "snapshots", "copy_to", number)
        if copy == rules.site:
            yield Finding("snapshot-copy", path, f"the site {copy!r} is where they are")
        elif site is not None and target is not None and target.provider != site.provider:
            message = f"the site {copy!r} is of {target.provider}, and they are of {site.provider}"
            yield Finding("snapshot-copy", path, message)


def _fate(plan: Plan, name: str, rules: Rules) -> Iterator[Finding]:
    """Vaults that fall with production, if there is no other one."""
    site = plan.sites.get(rules.site or "")
    used = [plan.vaults[vault] for vault in (rules.vault, *rules.copies) if vault in plan.vaults and vault]
    if site is None or not used:
        return
    reasons = []
    for vault in used:
        other = plan.sites.get(vault.site)
        reason = other and _shared(rules.site or "", site, vault.site, other)
        if not reason:
            return
        reasons.append(reason)
    message = f"what befalls production befalls all its vaults: {'; '.join(dict.fromkeys(reasons))}"
    needs = ("vaults", rules.vault or "")
    yield Finding("shares-fate", where(plan, name, "vault"), message, needs=needs)


def _shared(name: str, site: Site, other_name: str, other: Site) -> str:
    """What two sites have in common, empty if nothing."""
    if name == other_name:
        return f"both are at {name!r}"
    if (site.provider, site.account) == (other.provider, other.account) and site.provider != "on-premises":
        return f"both are in the account {site.account}"
    if both := sorted(set(site.administrators) & set(other.administrators)):
        return f"{', '.join(both)} can destroy both"
    return ""
