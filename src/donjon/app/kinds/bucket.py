"""The objects of a bucket or container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from donjon.app.buckets import bucket_source
from donjon.app.kinds.base import Prepared, Surroundings
from donjon.clouds.objects.address import BucketAddress
from donjon.plan.workloads import Bucket


@contextmanager
def prepare(bucket: Bucket, surroundings: Surroundings) -> Iterator[Prepared]:
    """The bucket, at rest while it is read. Raises ``UsageError`` for an address that is none."""
    path = os.fsencode(BucketAddress.parse(bucket.url).url)
    limits, credential = surroundings.limits, surroundings.credential
    with (
        bucket_source(bucket, credential, requests_per_s=limits.requests, stop=surroundings.stop) as source,
        surroundings.quiesce(),
    ):
        yield Prepared(source, (path,))
