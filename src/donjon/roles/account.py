"""What the rendered account is to be called and to hold; every value is checked here, once."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from donjon.core.errors import UsageError

_RULES = {
    "bucket": (r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "3 to 63 lowercase letters, digits, dots and hyphens"),
    "log_bucket": (
        r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        "3 to 63 lowercase letters, digits, dots and hyphens",
    ),
    "prefix": (r"(?:[a-z0-9-][a-z0-9.-]*(?:/[a-z0-9-][a-z0-9.-]*)*)?", "lowercase names between slashes"),
    "name": (r"[a-z][a-z0-9-]{1,19}", "2 to 20 lowercase letters, digits and hyphens"),
    "external_id": (r"[\w+=,.@:/-]{8,1224}", "8 characters or more, of letters, digits and +=,.@:/-"),
}
#: What AWS and Azure take: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html (100 years)
_LONGEST_DAYS = 36_500
#: As `donjon init` has it.
_SHORTEST_DAYS = 7


@dataclass(frozen=True, slots=True)
class Account:
    """A dedicated account for one vault.

    ``min_retention`` and ``max_retention`` are days: the default lock of what comes without one, and the
    longest lock that anybody may ask for. ``owner`` is the account, subscription or project that holds the
    vault, ``production`` the one whose hosts back up into it, ``operators`` the one of the people who assume
    the other roles, by default ``owner``. ``principals`` are (role, identity) that get a role where
    a cloud does not let them assume it. ``key`` is whether there is to be a key of the cloud's key service;
    ``managed_hsm`` is the Managed HSM in which it is to be, instead of a Key Vault.
    """

    bucket: str
    owner: str = ""
    prefix: str = ""
    production: str = ""
    operators: str = ""
    external_id: str = ""
    writers: tuple[str, ...] = ()
    min_retention: int = 30
    max_retention: int = 32
    name: str = "donjon"
    log_bucket: str = ""
    break_glass: str = ""
    key: bool = True
    private_network: tuple[str, ...] = ()
    allow_ip: tuple[str, ...] = ()
    principals: tuple[tuple[str, str], ...] = ()
    region: str = ""
    storage_account: str = ""
    resource_group: str = ""
    managed_hsm: str = ""

    def __post_init__(self) -> None:
        """Raises ``UsageError`` for a value that cannot be one."""
        for field, (rule, words) in _RULES.items():
            value = getattr(self, field)
            if value and not re.fullmatch(rule, value):
                raise _wrong(field, value, words)
        for writer in self.writers:
            if not re.fullmatch(r"[0-9a-f]{32}", writer):
                raise _wrong("writer", writer, "the 32 hexadecimal digits that `donjon writer list` shows")
        if not _SHORTEST_DAYS <= self.min_retention <= self.max_retention <= _LONGEST_DAYS:
            told = f"{self.min_retention} to {self.max_retention} days"
            words = f"{_SHORTEST_DAYS} days at least, and no longer than the longest"
            raise _wrong("retention", told, words)
        for address in self.allow_ip:
            _check_network(address)

    @property
    def logs(self) -> str:
        """The bucket of the access log."""
        return self.log_bucket or f"{self.bucket}-logs"

    @property
    def alias(self) -> str:
        """A name for the key that says which vault it is of."""
        return f"{self.name}-{self.bucket.replace('.', '-')}"

    def path(self, name: str) -> str:
        """The name of an object in the bucket, from its name in the vault."""
        return f"{self.prefix}/{name}" if self.prefix else name


def _check_network(address: str) -> None:
    try:
        ipaddress.ip_network(address)
    except ValueError as error:
        raise _wrong("allow_ip", address, "an address or a network such as 203.0.113.0/24") from error


def need(value: str, option: str, what: str, rule: str = "") -> str:
    """The value of an option that a cloud cannot do without. Raises ``UsageError``."""
    if not value:
        msg = f"{option} is missing"
        raise UsageError(msg, hint=f"It is {what}.")
    if rule and not re.fullmatch(rule, value):
        raise _wrong(option, value, what)
    return value


def _wrong(field: str, value: str, words: str) -> UsageError:
    option = field if field.startswith("--") else f"--{field.replace('_', '-')}"
    return UsageError(f"{option} {value}: is not right", hint=f"It must be {words}.")
