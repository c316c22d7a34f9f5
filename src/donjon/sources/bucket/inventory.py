"""An inventory of S3 as the list of a bucket that is too large to be listed.

S3 writes one a day or a week into another bucket: CSV files packed with gzip, and a manifest that names them
with their sizes and MD5
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html). It may lag behind by
days: an object that is gone by now is reported as vanished, and one that is newer comes with the next.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import unquote_plus

import msgspec

from donjon.clouds.objects.base import Listed, Objects
from donjon.clouds.objects.s3_answers import time_ns
from donjon.core.errors import IntegrityFailure, ObjectNotFound, SourceFailed, UsageError

_MANIFEST: Final = "manifest.json"
_NEEDED: Final = ("Key", "Size", "LastModifiedDate", "ETag")
_ROWS: Final = 1000
_MAX_MANIFEST_BYTES: Final = 64 << 20
#: S3 cuts an inventory into files far smaller than this.
_MAX_FILE_BYTES: Final = 4 << 30


class _File(msgspec.Struct):
    key: str
    size: int
    md5: str = msgspec.field(name="MD5checksum")


class _Manifest(msgspec.Struct, rename="camel"):
    source_bucket: str
    file_format: str
    file_schema: str
    files: list[_File]


def inventory_pages(
    lists: Objects, objects: Objects, *, versions: bool
) -> Callable[[], Iterator[list[Listed]]]:
    """The pages of the newest inventory below ``lists``, an address of it or of one ``manifest.json``.

    Raises ``UsageError`` unless both are buckets of S3; what else is wrong comes when it is read.
    """
    if (lists.provider, objects.provider) != ("s3", "s3"):
        msg = "only S3 writes inventories that Donjon reads"
        raise UsageError(msg, hint="Leave `inventory` out: the bucket is listed then.")
    return lambda: _pages(lists, objects, versions=versions)


def _pages(lists: Objects, objects: Objects, *, versions: bool) -> Iterator[list[Listed]]:
    manifest = _read_manifest(lists, _newest(lists))
    columns = [name.strip() for name in manifest.file_schema.split(",")]
    needed = (*_NEEDED, "VersionId", "IsLatest", "IsDeleteMarker") if versions else _NEEDED
    missing = [name for name in needed if name not in columns]
    bucket = objects.url.partition("://")[2].partition("/")[0]
    if manifest.source_bucket != bucket:
        msg = f"{lists.url}: is the inventory of {manifest.source_bucket}, not of {bucket}"
        raise SourceFailed(msg, hint="Correct `inventory` in the plan.")
    if manifest.file_format != "CSV" or missing:
        msg = (
            f"{lists.url}: cannot be used: {'it lacks ' + ', '.join(missing) if missing else 'it is no CSV'}"
        )
        raise SourceFailed(msg, hint="Set its format to CSV and add the optional fields.")
    for file in manifest.files:
        page: list[Listed] = []
        for row in _rows(lists, file):
            listed = _listed(dict(zip(columns, row, strict=True)))
            if listed.key.startswith(objects.prefix) and (versions or listed.is_latest):
                page.append(listed)
            if len(page) == _ROWS:
                yield page
                page = []
        yield page


def _newest(lists: Objects) -> Listed:
    """The manifest that was written last; their folders are called after the time."""
    if lists.prefix.rstrip("/").endswith(_MANIFEST):
        key = lists.prefix.rstrip("/")
        found = lists.look(key)
        if found is None:
            raise SourceFailed(f"{lists.url}: there is no inventory", hint="Correct `inventory` in the plan.")
        return found[0]
    newest: Listed | None = None
    for page in lists.pages():
        for listed in page:
            if listed.key.rpartition("/")[2] == _MANIFEST and (newest is None or newest.key < listed.key):
                newest = listed
    if newest is None:
        msg = f"{lists.url}: there is no inventory yet"
        raise SourceFailed(msg, hint="The first one comes within two days after it was switched on.")
    return newest


def _read_manifest(lists: Objects, listed: Listed) -> _Manifest:
    if listed.size_bytes > _MAX_MANIFEST_BYTES:
        raise IntegrityFailure(f"{listed.key}: is too large to be a manifest")
    try:
        return msgspec.json.decode(_whole(lists, listed, {}), type=_Manifest)
    except msgspec.MsgspecError as error:
        raise IntegrityFailure(f"{listed.key}: is no manifest of an inventory: {error}") from error


def _rows(lists: Objects, file: _File) -> Iterator[list[str]]:
    """The rows of one file, whose size and MD5 must be what the manifest says."""
    if file.size > _MAX_FILE_BYTES:
        raise IntegrityFailure(f"{file.key}: is too large for a file of an inventory")
    found = lists.look(file.key)
    if found is None:
        raise SourceFailed(f"{file.key}: this file of the inventory is gone", hint="Use a newer inventory.")
    data = _whole(lists, found[0], {"size": str(file.size), "md5": file.md5})
    try:
        with gzip.open(io.BytesIO(data), "rt", encoding="utf-8", newline="") as text:
            yield from csv.reader(text)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise IntegrityFailure(f"{file.key}: cannot be read: {error}") from error


def _whole(lists: Objects, listed: Listed, expected: Mapping[str, str]) -> bytes:
    try:
        data = lists.read(listed, most_bytes=_MAX_FILE_BYTES).data
    except ObjectNotFound as error:
        raise SourceFailed(error.message, hint="Use a newer inventory.") from error
    if expected:
        found = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if (str(len(data)), found) != (expected["size"], expected["md5"]):
            raise IntegrityFailure(f"{listed.key}: is not what the manifest of the inventory says")
    return data


def _listed(row: dict[str, str]) -> Listed:
    """One row. Keys are encoded as in addresses."""
    try:
        is_marker = row.get("IsDeleteMarker", "false") == "true"
        return Listed(
            unquote_plus(row["Key"], errors="surrogateescape"),
            int(row["Size"] or 0),
            time_ns(row["LastModifiedDate"]),
            row["ETag"].strip('"'),
            row.get("VersionId", ""),
            row.get("StorageClass", ""),
            row.get("IsLatest", "true") == "true",
            is_marker,
        )
    except (ValueError, KeyError) as error:
        raise IntegrityFailure(f"the inventory has a row that cannot be read: {error}") from error
