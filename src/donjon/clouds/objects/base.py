"""The port to a bucket: list, read, put. One adapter for each provider."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

import msgspec

from donjon.core.errors import StoreError

Buffer = bytes | bytearray | memoryview

#: The most that a key can have, in UTF-8, at S3 and Google; Azure counts characters.
MAX_KEY_BYTES = 1024
#: Begins the names of objects that are put to learn what a bucket does, and deleted at once.
PROBE: Final = "donjon-probe-"
#: Whoever reads an object whole expects a small one.
WHOLE_LIMIT_BYTES = 4 << 20


class ObjectChanged(StoreError):
    """The object is not any more what it was when it was listed or first read."""


class Listed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One object, or one version of it, as a listing tells it.

    ``key`` is the whole key. ``modified_ns`` is in Unix nanoseconds. ``etag`` changes with the content, and
    where the provider has it so with the metadata. ``version`` is empty where the listing tells none.
    """

    key: str
    size_bytes: int
    modified_ns: int
    etag: str
    version: str = ""
    storage_class: str = ""
    is_latest: bool = True
    is_marker: bool = False


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=False):
    """What goes along with the bytes of an object. ``user`` and ``tags`` are what people set."""

    content_type: str = ""
    content_encoding: str = ""
    content_language: str = ""
    content_disposition: str = ""
    cache_control: str = ""
    expires: str = ""
    user: dict[str, str] = {}
    tags: dict[str, str] = {}
    storage_class: str = ""


@dataclass(frozen=True, slots=True)
class Got:
    """An answer to a read: the object as it is now, and the bytes that were asked for of it."""

    listed: Listed
    metadata: Metadata
    data: bytes


class Upload(Protocol):
    """A large object that is put in parts. Nothing is visible before ``complete``.

    ``part`` may be called from many threads; if ``ordered``, one call follows the other, in order.
    """

    part_bytes: int
    ordered: bool

    def part(self, number: int, data: Buffer) -> None:
        """Put the part ``number``, counted from 0; all but the last have ``part_bytes``."""

    def complete(self, parts: int) -> bool:
        """Make the object of so many parts visible; False if there is one and it must stay."""

    def abort(self) -> None:
        """Throw the parts away. Never raises."""


class Objects(Protocol):
    """A bucket or a prefix of one. All methods may be called from many threads.

    They raise ``PermissionMissing`` that names the permission, ``StoreUnavailable`` after some retries, and
    ``StoreError`` for what nobody can mend here.
    """

    #: For people, without secrets; and ``s3``, ``azure`` or ``gs``.
    url: str
    provider: str
    #: What the keys begin with.
    prefix: str
    #: Whether a key that is deleted gets a delete marker, which is listed among its versions.
    marks_deletions: bool

    def pages(self, *, versions: bool = False) -> Iterator[list[Listed]]:
        """All objects below the prefix, in no order in particular.

        With ``versions``, older versions and delete markers too, those of one key newest first.
        """

    def read(
        self,
        listed: Listed,
        *,
        offset: int = 0,
        length: int | None = None,
        tags: bool = True,
        most_bytes: int = WHOLE_LIMIT_BYTES,
    ) -> Got:
        """Read an object: its version if that is named, otherwise as it is now.

        With a ``length``, at most so many bytes from ``offset`` on, and only if it still has the ETag of
        ``listed``: else ``ObjectChanged``; which comes for a whole object as well that by now has over
        ``most_bytes``. Raises ``ObjectNotFound``.
        """

    def look(self, key: str) -> tuple[Listed, Metadata] | None:
        """What is there under a key, None for nothing."""

    def put(self, key: str, data: Buffer, metadata: Metadata, *, replace: bool) -> bool:
        """Put an object; False if there is one and it must stay."""

    def start(self, key: str, size_bytes: int, metadata: Metadata, *, replace: bool) -> Upload:
        """Begin to put a large object."""

    def hide(self, key: str) -> None:
        """Delete what is current under a key, as people do.

        Where versions are kept it becomes an older one; S3 lays a delete marker over it.
        """

    def keeps_versions(self) -> bool:
        """Whether what is replaced or deleted stays as an older version."""

    def fitting(self, metadata: Metadata) -> tuple[Metadata, list[str]]:
        """What this provider can keep of the metadata, and what not, in words."""

    def close(self) -> None:
        """Give back the connections."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a provider allows in metadata; a ``name`` says which names of user metadata it takes."""

    provider: str
    user_bytes: int
    tags: int
    tag_signs: re.Pattern[str] | None = None
    expires: bool = True
    names: str = "any"
    lower_names: bool = False
    storage_classes: Mapping[str, str] = field(default_factory=dict)


def fit(metadata: Metadata, rules: Rules) -> tuple[Metadata, list[str]]:
    """Cut metadata down to the rules, and say what was left out."""
    lost: list[str] = []
    user = _user(metadata.user, rules, lost)
    tags = metadata.tags
    if rules.tag_signs:
        sound = {name: value for name, value in tags.items() if rules.tag_signs.fullmatch(name + value)}
        lost += [f"tag {name}" for name in sorted(tags.keys() - sound.keys())]
        tags = sound
    if len(tags) > rules.tags:
        lost.append(f"{len(tags) - rules.tags} of {len(tags)} tags")
        tags = dict(sorted(tags.items())[: rules.tags])
    changes: dict[str, object] = {"user": user, "tags": tags}
    if metadata.expires and not (rules.expires and _is_date(metadata.expires)):
        lost.append("Expires")
        changes["expires"] = ""
    if metadata.storage_class:
        changes["storage_class"] = rules.storage_classes.get(metadata.storage_class, "")
        if not changes["storage_class"]:
            lost.append(f"storage class {metadata.storage_class}")
    return msgspec.structs.replace(metadata, **changes), lost


def _is_date(text: str) -> bool:
    try:
        parsedate_to_datetime(text)
    except ValueError:
        return False
    return True


def _user(user: Mapping[str, str], rules: Rules, lost: list[str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    left = rules.user_bytes
    for name, value in sorted(user.items()):
        as_kept = name.lower() if rules.lower_names else name
        size = len(as_kept.encode()) + len(value.encode())
        sound = value.isprintable() and value.isascii() and value == value.strip()
        if rules.names == "identifier":
            sound = sound and as_kept.isidentifier() and as_kept.isascii()
        else:
            sound = sound and as_kept != "" and all(sign.isalnum() or sign in "-_." for sign in as_kept)
        if not sound or size > left or as_kept in kept:
            lost.append(f"metadata {name}")
            continue
        left -= size
        kept[as_kept] = value
    return kept


def quiet(metadata: Metadata) -> Metadata:
    """Without what no put sets by itself: for comparing."""
    return msgspec.structs.replace(metadata, storage_class="", tags={})
