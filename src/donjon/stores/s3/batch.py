"""The manifest of a job of S3 Batch Operations, which locks millions of objects without a request of ours.

Lines of bucket, key (encoded as in a URL) and version, without a header. Source: "Specifying a manifest" in
https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-create-job.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import quote

from donjon.core.errors import UsageError
from donjon.stores.s3.address import S3Address


def batch_manifest(url: str, objects: Iterable[tuple[str, str | None]]) -> Iterator[str]:
    """The lines for objects, by name and version, of the store at ``url``.

    Raises ``UsageError`` for an object without a version: the job would lock whatever lies over it.
    """
    address = S3Address.parse(url)
    for name, version in objects:
        if version is None:
            msg = f"{name}: has no version, so the bucket cannot hold locks"
            raise UsageError(msg, hint="See `donjon init --help` for what a bucket needs.")
        yield f"{address.bucket},{quote(address.prefix + name)},{version}\n"
