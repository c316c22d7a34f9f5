"""Keys of objects become paths and come back, whatever they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donjon.clouds.objects.base import Listed
from donjon.clouds.objects.keys import MARKS, folder_of, key_of, path_of
from donjon.core.errors import IntegrityFailure
from donjon.format.segments import possible_name
from donjon.sources.bucket.listing import OBJECTS, SEPARATOR, Listing

_COMPONENTS = st.one_of(
    st.sampled_from(
        [
            "",
            ".",
            "..",
            "...",
            "%",
            "%=",
            "%-a",
            "%+",
            "%@",
            "%25",
            "%00",
            "\0",
            "a",
            "b",
            "a" * 255,
            "a" * 256,
        ]
    ),
    st.text(max_size=4).map(lambda text: text.replace("/", "")),
    st.text("€𝄞x%\0", min_size=70, max_size=400),
)
_KEYS = st.lists(_COMPONENTS, min_size=1, max_size=6).map(lambda parts: "/".join(parts).encode())


@given(_KEYS, st.booleans())
def test_every_key_comes_back_from_its_path(key: bytes, marked: bool) -> None:
    path = path_of(key, marked=marked)
    assert key_of(path) == key
    assert all(possible_name(name) and len(name) <= 255 for name in path.split(b"/"))


@given(_KEYS)
def test_names_are_cut_between_characters(key: bytes) -> None:
    for name in path_of(key).split(b"/"):
        name.decode()


@given(st.sets(_KEYS, min_size=1, max_size=12))
def test_any_keys_make_one_tree_in_order(keys: set[bytes]) -> None:
    listing = Listing("")
    try:
        listing.fill([[Listed(key.decode(), 1, 0, "e") for key in sorted(keys)]], versions=False)
        rows = list(listing.rows())
    finally:
        listing.close()
    paths = [place.split(SEPARATOR) for place, _ in rows]
    assert paths == sorted(paths)
    assert len(paths) == len(keys)
    folders = {tuple(path[:depth]) for path in paths for depth in range(1, len(path))}
    assert not folders & {tuple(path) for path in paths}
    assert {key_of(b"/".join(path[1:])) for path in paths} == keys
    assert {path[0] for path in paths} == {OBJECTS}


@given(_KEYS)
def test_folders_of_keys_hold_no_objects(key: bytes) -> None:
    """So that older versions of ``a`` go into the directory that what is in ``a/`` goes into as well."""
    assert path_of(key + b"/x") == folder_of(key) + b"/x"


@pytest.mark.parametrize("path", [b"%@20260102T030405Z-0000-version-x", b"a/%@x", b"%-a", b"%=a/b", b"a/%+b"])
def test_what_is_the_path_of_no_key_is_refused(path: bytes) -> None:
    with pytest.raises(IntegrityFailure):
        key_of(path)


def test_the_marks_are_as_documented() -> None:
    assert MARKS == (b"%=", b"%-", b"%+", b"%@")
    assert path_of(b"a/../.") == b"a/%-../%=."
    assert path_of(b"folder/") == b"folder/%="
    assert path_of(b"//x") == b"%-/%-/x"
    assert path_of(b"%=x/100%") == b"%-%25=x/100%"
    assert path_of(b"a", marked=True) == b"%=a"
    assert (
        path_of(b"y" * 300)
        == b"%+" + b"y" * 80 + b"/%+" + b"y" * 80 + b"/%+" + b"y" * 80 + b"/%=" + b"y" * 60
    )
