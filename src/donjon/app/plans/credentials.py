"""The stored credentials that a plan names: what is wrong with them by the limits of the plan."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from donjon.app.catalog.opening import Places
from donjon.app.credentials import CredentialRequest, check_credentials, judged
from donjon.app.signers.writer_key import keys_in_use
from donjon.core.clock import Clock
from donjon.core.errors import DonjonError
from donjon.credentials.findings import Finding, Limits, Severity

if TYPE_CHECKING:
    from donjon.credentials.base import Credential as Known
    from donjon.plan.model import Credential

#: Options of `donjon credentials check`, and those that the plan has by another name.
_OPTION: Final = re.compile(r"--(admin-profile|endpoint|file|owner|profile|role)\b")
_KEYS: Final = {"profile": "aws_profile", "admin-profile": "admin_profile"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What was looked at, and what is wrong with it. ``name`` is that in the plan, if it is of one.

    ``service`` is None if nothing is stored on this host, so that nothing can grow old.
    """

    name: str | None
    service: str | None
    credentials: Sequence[Known] = ()
    findings: Sequence[Finding] = ()


def check_planned(places: Places, given: Mapping[str, int], clock: Clock) -> Iterator[Entry]:
    """Each credential of the plan. ``given`` are limits, in seconds, that stand above those of the plan.

    One that cannot be looked at is a finding, so that it hides none of the others.
    """
    for name, credential in places.plan.credentials.items():
        limits = replace(limits_of(credential), **given)
        try:
            entry = _checked(places, name, credential, limits, clock)
        except DonjonError as error:
            fix = error.hint or "Look at it alone, with `donjon credentials check SERVICE`."
            unseen = Finding("unchecked", Severity.CRITICAL, name, error.message, fix)
            entry = Entry(name, credential.stored, (), (unseen,))
        yield replace(entry, findings=[_for_plan(one) for one in entry.findings])


def _for_plan(finding: Finding) -> Finding:
    """With the keys of the plan in place of the options that they stand for."""
    fix = _OPTION.sub(lambda match: f"`{_KEYS.get(match[1], match[1])}`", finding.fix)
    return replace(finding, fix=fix)


def limits_of(credential: Credential) -> Limits:
    """What the plan says about how old it may get."""
    return Limits(credential.max_age, credential.max_unused, credential.max_overlap, credential.renew_before)


def _checked(places: Places, name: str, credential: Credential, limits: Limits, clock: Clock) -> Entry:
    service = credential.stored
    if service == "writer" and credential.vault is not None:
        space = places.space(credential.vault)
        return Entry(name, service, *judged(keys_in_use(space), limits, clock))
    request = _request(credential) if service else None
    if request is None:
        return Entry(name, None)
    return Entry(name, service, *check_credentials(request, limits, clock))


def _request(credential: Credential) -> CredentialRequest | None:
    """What to look at; None if the profile of AWS stores no key."""
    profile = credential.aws_profile
    if credential.stored == "aws" and credential.file is None and profile is not None:
        from donjon.credentials.aws_profile import key_profile

        profile = key_profile(profile, os.environ)
        if profile is None:
            return None
    return CredentialRequest(
        str(credential.stored), Path(credential.file) if credential.file else None, profile,
        credential.admin_profile, credential.owner, None, credential.endpoint, credential.role,
    )  # fmt: skip
