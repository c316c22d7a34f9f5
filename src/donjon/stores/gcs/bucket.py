"""Looks at a bucket of Google Cloud Storage before a vault goes into it, and makes or mends one."""

from __future__ import annotations

from typing import Any

from donjon.stores.base import BucketFault

_TIMEOUT_S = 60.0


def bucket_faults(bucket: Any, lock_s: int) -> list[BucketFault]:
    """What must change before this bucket, as it was loaded, can hold a vault whose locks last ``lock_s``."""
    update = f"gcloud storage buckets update gs://{bucket.name}"
    faults = []
    if lock_s and bucket.object_retention_mode != "Enabled":
        fault = "object retention is off, so nothing can be locked, and gcloud sets it for new buckets only"
        fix = f"gcloud storage buckets create gs://NEW-{bucket.name} --enable-per-object-retention"
        faults.append(BucketFault(fault, fix))
    if not bucket.versioning_enabled:
        fault = "versioning is off, so what is deleted or replaced after its lock is gone at once"
        faults.append(BucketFault(fault, f"{update} --versioning"))
    if bucket.iam_configuration.public_access_prevention != "enforced":
        faults.append(BucketFault("public access is not prevented", f"{update} --public-access-prevention"))
    return faults


def make_bucket(bucket: Any, lock_s: int) -> None:
    """Make the bucket unless it exists, and mend what can be mended: object retention comes from the start.

    Source: https://docs.cloud.google.com/storage/docs/using-object-lock. The place is Google's default, the
    multi-region US; a bucket elsewhere is made with gcloud.
    """
    exists = bucket.exists(retry=None, timeout=_TIMEOUT_S)
    bucket.versioning_enabled = True
    bucket.iam_configuration.public_access_prevention = "enforced"
    if exists:
        bucket.patch(retry=None, timeout=_TIMEOUT_S)
        return
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.create(enable_object_retention=bool(lock_s), retry=None, timeout=_TIMEOUT_S)
