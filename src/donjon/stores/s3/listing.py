"""Lists versions and delete markers."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from donjon.core.errors import IntegrityFailure
from donjon.stores.base import ObjectInfo, validate_name
from donjon.stores.s3.client import S3Client
from donjon.stores.s3.operations import LIST


def list_versions(client: S3Client, prefix: str) -> Iterator[ObjectInfo]:
    """Every version and delete marker under a prefix, sorted by name, those of one name newest first.

    S3 returns "versions in the order in which they were stored, with the most recently stored object
    returned first" (https://docs.aws.amazon.com/AmazonS3/latest/userguide/list-obj-version-enabled-bucket.html),
    a thousand on a page.
    """
    place: dict[str, str] = {"Prefix": client.address.prefix + prefix}
    while True:
        page = client.call(LIST, **place)
        yield from _entries(page, client.address.prefix)
        if not page.get("IsTruncated"):
            return
        place["KeyMarker"] = page["NextKeyMarker"]
        if version := page.get("NextVersionIdMarker"):
            place["VersionIdMarker"] = version
        else:
            place.pop("VersionIdMarker", None)


def _entries(page: dict[str, Any], prefix: str) -> Iterator[ObjectInfo]:
    """What is on one page. The SDK gives versions and markers apart, so they are merged by their times.

    The order among versions is left as the server tells it: SeaweedFS gives a version whose lock is extended
    the time of that, so by time the oldest one would seem to be newer.
    """
    entries = (
        [
            _info(item, name, is_marker=kind == "DeleteMarkers")
            for item in page.get(kind, ())
            if _is_name(name := item["Key"][len(prefix) :])
        ]
        for kind in ("DeleteMarkers", "Versions")
    )
    return heapq.merge(*entries, key=lambda info: (info.name, not info.is_latest, -info.stored_at))


def _info(item: dict[str, Any], name: str, *, is_marker: bool) -> ObjectInfo:
    version = item.get("VersionId")
    return ObjectInfo(
        name,
        0 if is_marker else item["Size"],
        int(item["LastModified"].timestamp()),
        version=None if version == "null" else version,
        is_latest=item["IsLatest"],
        delete_marker=is_marker,
    )


def _is_name(name: str) -> bool:
    try:
        validate_name(name)
    except IntegrityFailure:
        return False
    return True
