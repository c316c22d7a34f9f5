"""The harness measures Donjon in a bucket, and counts its requests at the server and in Donjon alike.

So it also tells that a restore of everything asks for each pack once.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from bench.measure import count, run
from bench.observed import calls, observed
from bench.servers import running
from bench.tools import Donjon, Place
from donjon.testing.trees import compare_trees
from tests.integration.engine import fill


def test_requests_are_counted_at_the_server_and_calls_in_donjon(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    fill(corpus, 20, 1)
    with running(tmp_path / "run" / "repository") as server:
        place = Place(tmp_path / "run", corpus, tmp_path / "restored", server)
        place.home.mkdir()
        tool = Donjon(Path(sys.executable).with_name("donjon"))
        assert place.requests is not None
        run(tool.prepare(place))
        before = place.requests
        report = tmp_path / "calls.json"
        run(observed(tool.backup(place), report))
        requests, counted = place.requests - before, calls(report)
        assert place.stored_bytes > 0
        # At least a pack of data, one of metadata, the index, the session and the manifest.
        assert counted >= 5
        # The server sees each call, and a few looks at its clock and at the bucket, which are none.
        assert counted <= requests <= counted + 5
        run(tool.restore(place))
        assert place.requests > before + requests
    assert count(place.restored) == count(corpus)


def test_a_restore_of_everything_asks_for_each_pack_once(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    randomness = random.Random(7)
    for number in range(4):
        (corpus / f"f{number}").write_bytes(randomness.randbytes(60_000_000))
    with running(tmp_path / "run" / "repository") as server:
        place = Place(tmp_path / "run", corpus, tmp_path / "restored", server)
        place.home.mkdir()
        tool = Donjon(Path(sys.executable).with_name("donjon"))
        run(tool.prepare(place))
        run(tool.backup(place))
        packs, report = (
            7,
            tmp_path / "calls.json",
        )  # six of data at most, one of metadata
        run(observed(tool.restore(place), report))
        assert compare_trees(os.fsencode(corpus), os.fsencode(place.restored / corpus.relative_to("/"))) == []
        # 240 MB in ranges of a few chunks would be 60 requests; opening a vault takes about 15.
        assert calls(report) <= 20 + packs
