"""Addresses of buckets that are backed up or restored to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from donjon.core.addresses import split_address
from donjon.core.errors import UsageError

_SCHEMES = ("s3", "azure", "gs")
_FORMS = "Write s3://bucket/prefix, azure://account/container/prefix or gs://bucket/prefix."
_NAME = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{1,221}")
_REGION = re.compile(r"[a-z0-9-]{1,64}")


def is_bucket(url: str) -> bool:
    """Whether this looks like the address of a bucket, and not like a path."""
    return url.partition("://")[0] in {"s3", "azure", "gs"} and "://" in url


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """The parts of an address. ``prefix`` is empty or ends with a slash; ``account`` is Azure's.

    ``endpoint`` and ``region`` are S3's, for servers other than AWS.
    """

    provider: str
    bucket: str
    prefix: str = ""
    account: str = ""
    endpoint: str | None = None
    region: str | None = None

    @classmethod
    def parse(cls, url: str) -> BucketAddress:
        """The address in ``url``. Raises ``UsageError`` that says what is wrong with it.

        A prefix may have any characters; ``%``, ``?`` and ``#`` are written as in every address.
        """
        parts = split_address(url)
        if parts.username or parts.password or "@" in parts.netloc:
            msg = "keys in addresses end up in logs"
            raise UsageError(msg, hint="Give them by a profile, a role, or the environment.")
        if parts.scheme not in _SCHEMES or parts.fragment:
            raise UsageError(f"{url!r} is no address of a bucket", hint=_FORMS)
        path = unquote(parts.path).removeprefix("/")
        account, bucket = "", parts.netloc
        if parts.scheme == "azure":
            account = parts.netloc
            bucket, _, path = path.partition("/")
        if not _NAME.fullmatch(bucket) or (parts.scheme == "azure" and not _NAME.fullmatch(account)):
            raise UsageError(f"{url!r} names no bucket", hint=_FORMS)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        endpoint, region = options.pop("endpoint", None), options.pop("region", None)
        if options or (parts.scheme != "s3" and parts.query):
            msg = f"{url!r}: has an option that such an address does not take"
            raise UsageError(msg, hint="s3:// takes endpoint and region, the others none.")
        if region is not None and not _REGION.fullmatch(region):
            msg = f"{region!r} is no region"
            raise UsageError(msg, hint="Write one as the provider names it, such as eu-central-1.")
        if endpoint is not None:
            _check_endpoint(endpoint)
        prefix = f"{path.rstrip('/')}/" if path.strip("/") else ""
        return cls(parts.scheme, bucket, prefix, account, endpoint and endpoint.rstrip("/"), region)

    @property
    def url(self) -> str:
        """The address for people, without options."""
        place = f"{self.account}/{self.bucket}" if self.account else self.bucket
        return f"{self.provider}://{place}/{self.prefix}".rstrip("/")


def _check_endpoint(text: str) -> None:
    parts = split_address(text)
    sound = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
    if not sound or parts.username or parts.password:
        msg = "the endpoint is no address of an S3 server"
        raise UsageError(msg, hint="Write https://host:port, without keys in it.")
