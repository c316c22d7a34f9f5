"""Opening buckets that are backed up or restored to, whatever provider they are at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from donjon.clouds.objects.address import BucketAddress, is_bucket
from donjon.clouds.objects.base import Objects
from donjon.core.events import StopCheck, never_stop
from donjon.core.pace import Pace
from donjon.plan.model import Credential
from donjon.plan.workloads import Bucket
from donjon.recovery.request import Request
from donjon.repository.points import OpenPoint
from donjon.sources.bucket.inventory import inventory_pages
from donjon.sources.bucket.source import BucketSource
from donjon.targets.bucket.target import BucketTarget


def bucket_named(url: str, *, versions: str = "current") -> tuple[Bucket, bytes]:
    """The workload at an address, and the path of its points. Raises ``UsageError``."""
    address = BucketAddress.parse(url)
    part = Bucket.model_validate({"kind": "bucket", "url": url, "versions": versions})
    return part, os.fsencode(address.url)


def open_objects(
    url: str, credential: Credential | None = None, *, requests_per_s: float | None = None
) -> Objects:
    """The objects at an address. Raises ``UsageError`` for an address that is none."""
    address = BucketAddress.parse(url)
    pace, given = Pace(requests_per_s), credential or Credential()
    if address.provider == "azure":
        from donjon.clouds.objects.azure import AzureObjects

        return AzureObjects(address, pace, client_id=given.azure_client)
    if address.provider == "gs":
        from donjon.clouds.objects.gcs import GcsObjects

        return GcsObjects(address, pace, account=given.google_account)
    from donjon.clouds.objects.s3 import S3Objects

    return S3Objects(address, pace, profile=given.aws_profile)


def is_of_bucket(point: OpenPoint) -> bool:
    """Whether a point is of a bucket, so that its paths are those of keys."""
    return any(is_bucket(os.fsdecode(path)) for path in point.body.sources)


def bucket_target(objects: Objects, request: Request) -> BucketTarget:
    """Where a restore to a bucket goes."""
    of_bucket = is_of_bucket(request.point)
    return BucketTarget(objects, request.overwrite, keys=of_bucket, whole=of_bucket and not request.under)


@contextmanager
def bucket_source(
    bucket: Bucket,
    credential: Credential | None = None,
    *,
    requests_per_s: float | None = None,
    stop: StopCheck = never_stop,
) -> Iterator[BucketSource]:
    """What reads a bucket, until the body ends. Raises ``UsageError`` for an address that is none."""
    objects = open_objects(bucket.url, credential, requests_per_s=requests_per_s)
    pages = None
    if bucket.inventory is not None:
        lists = open_objects(bucket.inventory, credential, requests_per_s=requests_per_s)
        pages = inventory_pages(lists, objects, versions=bucket.versions == "all")
    source = BucketSource(objects, versions=bucket.versions == "all", pages=pages, stop=stop)
    try:
        yield source
    finally:
        source.close()
        objects.close()
