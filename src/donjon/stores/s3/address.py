"""``s3://bucket/prefix?endpoint=URL&region=NAME``: where the objects of a vault are."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, urlencode

from donjon.core.addresses import split_address
from donjon.core.errors import UsageError

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
#: S3 allows 1024 bytes for a key, of which the names of a vault may take 512.
_MAX_PREFIX_BYTES = 500
_FORM = "Write s3://bucket/prefix, for a server other than AWS with ?endpoint=https://host:port behind it."


@dataclass(frozen=True, slots=True)
class S3Address:
    """The parts of an address. ``prefix`` is empty or ends with a slash.

    What is not in the address comes from where the AWS tools find it: ``AWS_PROFILE``,
    ``AWS_DEFAULT_REGION``, ``AWS_ENDPOINT_URL_S3`` and the files in ``~/.aws``. An endpoint in the address is
    remembered with it, in the configuration, in writer credentials and in the kit.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None

    @classmethod
    def parse(cls, url: str) -> S3Address:
        """The address in ``url``. Raises ``UsageError`` that says what is wrong with it."""
        parts = split_address(url)
        if parts.username or parts.password or "@" in parts.netloc:
            msg = "keys in addresses end up in logs"
            raise UsageError(msg, hint="Give them by AWS_PROFILE, a role, or AWS_ACCESS_KEY_ID.")
        prefix = parts.path.strip("/")
        if parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc) or parts.fragment:
            msg = f"{url!r} names no bucket of S3"
            raise UsageError(msg, hint=_FORM)
        if prefix and (not _PREFIX.fullmatch(prefix) or len(prefix) > _MAX_PREFIX_BYTES):
            msg = f"{prefix!r} cannot be the prefix of a vault"
            raise UsageError(msg, hint="Use letters, digits, '.', '_', '-' and single slashes.")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        endpoint, region = options.pop("endpoint", None), options.pop("region", None)
        if options:
            msg = f"{url!r}: an S3 address has no option {sorted(options)[0]!r}"
            raise UsageError(msg, hint="It may have endpoint and region.")
        if region is not None and not _REGION.fullmatch(region):
            msg = f"{region!r} is no region"
            raise UsageError(msg, hint="Write one as the provider names it, such as eu-central-1.")
        return cls(parts.netloc, f"{prefix}/" if prefix else "", _endpoint(endpoint), region)

    @property
    def url(self) -> str:
        """The address as text; ``parse`` understands it."""
        options = {"endpoint": self.endpoint, "region": self.region}
        given = {name: value for name, value in options.items() if value is not None}
        query = f"?{urlencode(given, safe=':/', quote_via=quote)}" if given else ""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/") + query

    def at(self, endpoint: str | None) -> S3Address:
        """The same place, at ``endpoint`` unless the address names one. Raises ``UsageError``."""
        return self if self.endpoint or not endpoint else replace(self, endpoint=_endpoint(endpoint))


def _endpoint(text: str | None) -> str | None:
    if text is None:
        return None
    parts = split_address(text)
    sound = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
    if not sound or parts.username or parts.password:
        msg = "the endpoint is no address of an S3 server"
        raise UsageError(msg, hint="Write https://host:port, without keys in it.")
    return text.rstrip("/")
