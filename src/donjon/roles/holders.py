"""Who holds which role, where a cloud gives roles to identities instead of letting them be assumed."""

from __future__ import annotations

from collections.abc import Iterator

from donjon.core.errors import UsageError
from donjon.roles.account import Account, need
from donjon.roles.model import ROLES, WRITER, Role


def check_holders(account: Account, what: str, rule: str) -> None:
    """Raises ``UsageError`` for an identity that is none, that has two roles, or that is missing.

    ``what`` says in words and ``rule`` as a regular expression what an identity looks like.
    """
    known = {role.name for role in ROLES if role is not WRITER} | set(account.writers)
    told = dict(account.principals)
    for who, principal in account.principals:
        need(principal, "--principal", what, rule)
        if who not in known:
            msg = f"--principal {who}: is neither a role nor one of the writers"
            raise UsageError(msg, hint="Write reader=IDENTITY, or the id of a --writer before the sign.")
    if lacking := [writer for writer in account.writers if writer not in told]:
        msg = f"the writer {lacking[0]} has no identity"
        raise UsageError(msg, hint=f"Give it with --principal {lacking[0]}=IDENTITY.")
    if len(told) < len(account.principals) or len(set(told.values())) < len(told):
        msg = "one identity would have two roles, or one role two identities"
        raise UsageError(msg, hint="Make one identity for each role; a group of people is one.")


def holders(account: Account) -> Iterator[tuple[Role, str, str]]:
    """(role, writer's id, identity) of everybody who is named."""
    told = dict(account.principals)
    for writer in account.writers:
        yield WRITER, writer, told[writer]
    for role in ROLES:
        if role.name in told:
            yield role, "", told[role.name]
