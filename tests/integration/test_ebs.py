"""Volumes of EBS through a fake of its direct APIs (``donjon.testing.aws.ebs_front``), and across."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from donjon.clouds import aws
from donjon.clouds.ebs import BLOCK_BYTES, EbsDirect, Pacing, connect, open_direct
from donjon.clouds.signed_gets import SignedGets
from donjon.codec.chunk import Sizes
from donjon.core.errors import DonjonError, PermissionMissing, Refused, SourceFailed, TargetFailed, UsageError
from donjon.core.pace import Pace
from donjon.sources.base import Source
from donjon.sources.block import BlockSource
from donjon.sources.ebs import SNAPSHOT_ATTRIBUTE, EbsSnapshot, EbsSource
from donjon.targets.ebs import EbsAddress, EbsTarget
from donjon.targets.image import ImageTarget
from donjon.testing.aws.ebs_front import EbsFront
from donjon.testing.aws.people import User
from donjon.testing.clock import ManualClock
from donjon.testing.conformance.sources import SourceTests
from donjon.testing.front import Answer, HangUp, Request, serving
from tests.integration.cli import Donjon
from tests.integration.engine import Place
from tests.integration.volumes import GIB, MIB, assert_same, back_up, bring_back, entry_of, noise, sparse

USER = User("ebs", "AKIAIOSFODNN7EXAMPLE", "made-up-secret-of-the-tests")
ZEROS = bytes(BLOCK_BYTES)


class Cloud:
    """The fake, and what speaks to it."""

    def __init__(self, front: EbsFront, endpoint: str) -> None:
        self.front = front
        self.endpoint = endpoint
        self.pauses: list[float] = []
        self.now = 0.0
        self.pacing = Pacing(
            attempts=5, requests_per_s=1e9, sleep=self._sleep, random=lambda: 1.0, monotonic=lambda: self.now
        )
        self.direct = open_direct(region="us-east-1", endpoint=endpoint, pacing=self.pacing)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def source(self, snapshot: str = "snap-1", volume: str = "vol-1", size: int = GIB) -> EbsSource:
        return EbsSource([EbsSnapshot(snapshot, volume, size, 1_700_000_000)], self.direct)

    def target(self, address: str = "ebs://") -> EbsTarget:
        ec2 = USER.client("ec2", self.endpoint)
        return EbsTarget(self.direct, ec2, EbsAddress.parse(address), "dev/sda", self.pacing)

    def made(self) -> dict[int, bytes]:
        """The blocks of the one snapshot that a restore made."""
        (snapshot,) = (one for one in self.front.snapshots.values() if one.asked)
        assert snapshot.state == "completed"
        return dict(snapshot.blocks)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[EbsFront, str]]:
    front = EbsFront(ManualClock())
    with serving(front) as endpoint:
        yield front, endpoint


@pytest.fixture
def cloud(served: tuple[EbsFront, str], monkeypatch: pytest.MonkeyPatch) -> Cloud:
    for name, value in USER.environment.items():
        monkeypatch.setenv(name, value)
    front, endpoint = served
    front.__init__(ManualClock())  # type: ignore[misc]  # as new, at the same address
    return Cloud(front, endpoint)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path / "place", sizes=Sizes())


def blocks(*indexes: int, seed: int = 0) -> dict[int, bytes]:
    return {index: noise(1000 * seed + index, BLOCK_BYTES) for index in indexes}


def image_of(path: Path, content: dict[int, bytes], size: int = GIB) -> Path:
    sparse(path, size, {index * BLOCK_BYTES: data for index, data in content.items()})
    return path


class TestEbsSource(SourceTests):
    @pytest.fixture(autouse=True)
    def _cloud(self, cloud: Cloud) -> None:
        cloud.front.add("snap-1", {3: noise(1, 1000) + bytes(BLOCK_BYTES - 1000)}, 1, "vol-1")
        self._made = cloud

    def make(self) -> Source:
        return self._made.source()


# -- reading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pages", [(10_000, False), (3, False), (2, True)])
def test_a_volume_comes_back_as_an_image(
    cloud: Cloud, place: Place, tmp_path: Path, pages: tuple[int, bool]
) -> None:
    content = blocks(0, 1, 2, 7, 8, 100, 101, 2047)
    content[8] = ZEROS  # written, and zero
    cloud.front.page_blocks, cloud.front.empty_pages = pages
    cloud.front.add("snap-1", content, 1, "vol-1")
    done = back_up(place, cloud.source())
    assert (done.counts.problems, done.warnings) == ([], [])
    entry = entry_of(place, b"vol-1")
    assert entry.size == GIB
    assert entry.attribute(SNAPSHOT_ATTRIBUTE) == b"snap-1"
    bring_back(place, ImageTarget(str(tmp_path / "image"), overwrite=False), verify=True)
    assert_same(image_of(tmp_path / "wanted", content), tmp_path / "image")
    place.assert_sound()


def test_an_increment_reads_the_changed_blocks_alone(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    first = blocks(*range(40), 1000)
    cloud.front.add("snap-1", first, 1, "vol-1")
    back_up(place, cloud.source())
    second = {**first, **blocks(5, 30, 2000, seed=1)}
    del second[1000]
    cloud.front.add("snap-2", second, 1, "vol-1")
    cloud.front.counts.clear()
    done = back_up(place, cloud.source("snap-2"))
    assert cloud.front.counts["GetSnapshotBlock"] == 3
    assert done.counts.bytes_read == 4 * BLOCK_BYTES  # block 1000 is gone, and known to be
    assert done.warnings == []
    bring_back(place, ImageTarget(str(tmp_path / "image"), overwrite=False))
    assert_same(image_of(tmp_path / "wanted", second), tmp_path / "image")
    done = back_up(place, cloud.source("snap-2"))  # the same snapshot again
    assert done.counts.files_unmodified == 1
    done = back_up(place, cloud.source("snap-2"), read_all=True)
    assert (done.counts.problems, done.bytes_stored < MIB) == ([], True)
    place.assert_sound()


def test_a_volume_that_was_enlarged(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    first = blocks(1, 2047)
    cloud.front.add("snap-1", first, 1, "vol-1")
    back_up(place, cloud.source())
    second = {**first, **blocks(2048, 5000)}
    cloud.front.add("snap-2", second, 3, "vol-1")
    done = back_up(place, cloud.source("snap-2", size=3 * GIB))
    assert done.counts.bytes_read == MIB
    bring_back(place, ImageTarget(str(tmp_path / "image"), overwrite=False))
    assert_same(image_of(tmp_path / "wanted", second, 3 * GIB), tmp_path / "image")


def _gone(front: EbsFront) -> None:
    del front.snapshots["snap-1"]


def _unrelated(front: EbsFront) -> None:
    front.snapshots["snap-1"].lineage = "another"


@pytest.mark.parametrize("change", [_gone, _unrelated])
def test_without_the_snapshot_of_the_previous_point_all_is_read_and_little_stored(
    cloud: Cloud, place: Place, change: Callable[[EbsFront], None]
) -> None:
    content = blocks(*range(10))
    cloud.front.add("snap-1", content, 1, "vol-1")
    back_up(place, cloud.source())
    change(cloud.front)
    cloud.front.add("snap-2", content, 1, "vol-1")
    done = back_up(place, cloud.source("snap-2"))
    assert done.counts.bytes_read == 5 * MIB
    assert done.bytes_stored < MIB
    assert "was read in full" in done.warnings[0]


def test_a_liar_among_the_listings_is_found_by_reading_all(cloud: Cloud, place: Place) -> None:
    cloud.front.add("snap-1", blocks(*range(10)), 1, "vol-1")
    back_up(place, cloud.source())
    cloud.front.add("snap-2", blocks(*range(10), seed=1), 1, "vol-1")

    def lie(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        answer = handle(request)
        if request.path.endswith("changedblocks"):
            body = json.loads(answer.body)
            return Answer(200, json.dumps({**body, "ChangedBlocks": body["ChangedBlocks"][:4]}).encode())
        return answer

    cloud.front.trouble = lie
    done = back_up(place, cloud.source("snap-2"), read_all=True)
    assert done.counts.problems[0].reason.startswith("6 extents of 512.0 KiB had changed")


def test_tokens_that_expire_are_asked_for_again(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    content = blocks(*range(20))
    cloud.front.add("snap-1", content, 1, "vol-1")
    cloud.front.page_blocks = 5
    clock = cloud.front.clock
    assert isinstance(clock, ManualClock)
    lock = threading.Lock()
    count = 0

    def slow(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        nonlocal count
        with lock:
            count += 1
            if count % 23 == 0:
                clock.advance(8 * 86_400)  # ends the tokens of pages and of blocks
        return handle(request)

    cloud.front.trouble = slow
    back_up(place, cloud.source())
    cloud.front.trouble = None
    bring_back(place, ImageTarget(str(tmp_path / "image"), overwrite=False))
    assert_same(image_of(tmp_path / "wanted", content), tmp_path / "image")


def _backwards(body: dict[str, object]) -> dict[str, object]:
    rows = body["Blocks"]
    assert isinstance(rows, list)
    return {**body, "Blocks": [{**row, "BlockIndex": 7 - row["BlockIndex"]} for row in rows]}


@pytest.mark.parametrize("change", [_backwards, lambda body: {**body, "BlockSize": 4096}])
def test_a_listing_that_would_lose_blocks_is_an_error(
    cloud: Cloud, place: Place, change: Callable[[dict[str, object]], dict[str, object]]
) -> None:
    cloud.front.add("snap-1", blocks(*range(8)), 1, "vol-1")
    cloud.front.page_blocks = 4

    def strange(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        answer = handle(request)
        if request.path.endswith("/blocks"):
            return Answer(200, json.dumps(change(json.loads(answer.body))).encode())
        return answer

    cloud.front.trouble = strange
    with pytest.raises(SourceFailed, match="listing is not as"):
        back_up(place, cloud.source())
    assert place.points() == []


def _throttled() -> Answer:
    body = json.dumps({"Reason": "ACCOUNT_THROTTLED", "message": "slow down"}).encode()
    return Answer(400, body, {"x-amzn-ErrorType": "RequestThrottledException"})


def test_throttling_and_bad_networks_are_waited_for(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    content = blocks(*range(16))
    cloud.front.add("snap-1", content, 1, "vol-1")
    lock = threading.Lock()
    count = 0

    def trouble(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        nonlocal count
        with lock:
            count += 1
            turn = count % 5
        answer = handle(request)
        if turn == 1:
            return _throttled()
        if turn == 2:
            raise HangUp
        if turn == 3 and len(answer.body) == BLOCK_BYTES:
            return Answer(200, b"x" + answer.body[1:], answer.headers)  # flipped on the way
        return answer

    cloud.front.trouble = trouble
    # A block may meet more than one of these.
    object.__setattr__(cloud.pacing, "attempts", 50)
    object.__setattr__(cloud.pacing, "budget_s", 1e9)
    back_up(place, cloud.source())
    cloud.front.trouble = None
    assert cloud.pauses
    bring_back(place, ImageTarget(str(tmp_path / "image"), overwrite=False))
    assert_same(image_of(tmp_path / "wanted", content), tmp_path / "image")


def test_a_block_that_is_always_damaged_makes_no_point(cloud: Cloud, place: Place) -> None:
    cloud.front.add("snap-1", blocks(1), 1, "vol-1")

    def flip(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        answer = handle(request)
        if len(answer.body) == BLOCK_BYTES:
            return Answer(200, b"x" + answer.body[1:], answer.headers)
        return answer

    cloud.front.trouble = flip
    with pytest.raises(SourceFailed, match="block 1 arrived damaged") as caught:
        back_up(place, cloud.source())
    assert caught.value.retryable
    assert len(cloud.pauses) == 4
    assert place.points() == []


@pytest.mark.parametrize(
    ("operation", "key", "permission"),
    [
        ("ListSnapshotBlocks", False, "ebs:ListSnapshotBlocks"),
        ("GetSnapshotBlock", False, "ebs:GetSnapshotBlock"),
        ("GetSnapshotBlock", True, "kms:Decrypt"),
    ],
)
def test_missing_permissions_are_named(
    cloud: Cloud, place: Place, operation: str, key: bool, permission: str
) -> None:
    cloud.front.add("snap-1", blocks(1), 1, "vol-1")
    (cloud.front.key_denied if key else cloud.front.denied).add(operation)
    with pytest.raises(PermissionMissing, match=f"no permission {permission}") as caught:
        back_up(place, cloud.source())
    assert permission in caught.value.hint
    assert cloud.pauses == []


def test_changes_that_may_not_be_listed_are_an_error_and_no_full_read(cloud: Cloud, place: Place) -> None:
    cloud.front.add("snap-1", blocks(1), 1, "vol-1")
    back_up(place, cloud.source())
    cloud.front.add("snap-2", blocks(1), 1, "vol-1")
    cloud.front.denied.add("ListChangedBlocks")
    with pytest.raises(PermissionMissing, match="ebs:ListChangedBlocks"):
        back_up(place, cloud.source("snap-2"))


def test_a_snapshot_that_vanishes_makes_no_point(cloud: Cloud, place: Place) -> None:
    cloud.front.add("snap-1", blocks(*range(40)), 1, "vol-1")

    def vanish(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        if request.path.endswith("/blocks/9"):
            cloud.front.snapshots.pop("snap-1", None)
        return handle(request)

    cloud.front.trouble = vanish
    with pytest.raises(SourceFailed, match="SNAPSHOT_NOT_FOUND") as caught:
        back_up(place, cloud.source())
    assert not caught.value.retryable
    assert place.points() == []


def test_behind_a_proxy_that_is_away_the_sdk_has_the_last_word(
    cloud: Cloud, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(region="us-east-1", endpoint=cloud.endpoint)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    gets = SignedGets(cloud.endpoint, "ebs", "us-east-1", aws.credentials("EBS"))
    monkeypatch.delenv("http_proxy")
    cloud.direct = EbsDirect(client, cloud.pacing, gets)
    content = blocks(0, 1, 7)
    cloud.front.add("snap-1", content, 1, "vol-1")
    back_up(place, cloud.source())
    bring_back(place, ImageTarget(str(tmp_path / "image"), overwrite=False))
    assert_same(image_of(tmp_path / "wanted", content), tmp_path / "image")


def test_blocks_are_asked_for_with_a_signature_and_once(cloud: Cloud) -> None:
    cloud.front.add("snap-1", blocks(3), 1, "vol-1")
    (page,) = cloud.direct.list_blocks("snap-1")
    token = page[3]
    assert token is not None
    cloud.front.requests.clear()
    block = bytearray(BLOCK_BYTES)
    cloud.direct.get_block("snap-1", 3, token, memoryview(block))
    assert block == blocks(3)[3]
    (request,) = cloud.front.requests
    assert "user-agent" not in request.headers  # the SDK's own requests have one
    signed = request.headers["authorization"]
    assert signed.startswith(f"AWS4-HMAC-SHA256 Credential={USER.access_key}/")
    assert "/us-east-1/ebs/aws4_request" in signed


def test_requests_keep_to_a_pace() -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    pace = Pace(50, burst_s=0.1, sleep=sleep, monotonic=lambda: now)
    for _ in range(500):
        pace.wait()
    assert 9.8 < now <= 10
    now += 100
    start = now
    for _ in range(5):  # a tenth of a second's worth at once
        pace.wait()
    assert now == start


# -- writing -------------------------------------------------------------------------------------------


def test_an_image_file_becomes_a_snapshot(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    image = tmp_path / "image"
    sparse(image, 700 * MIB + 512, {0: noise(1, MIB + 5), 300 * MIB + 7: noise(2, 9), 700 * MIB: b"end"})
    back_up(place, BlockSource([os.fsencode(image)]))
    done = bring_back(place, cloud.target("ebs://123456789012?encrypt=yes"), verify=True)
    assert done.verified
    (snapshot,) = cloud.front.snapshots.values()
    assert (snapshot.size_gib, snapshot.encrypted, snapshot.snapshot_id) == (1, True, done.made)
    assert snapshot.tags == [{"Key": "donjon-restored", "Value": "dev/sda"}]
    assert sorted(snapshot.blocks) == [0, 1, 2, 600, 1400]
    assert f"--snapshot-id {done.made}" in done.notes[0]
    # And as a volume of EBS back to an image.
    back_up(place, cloud.source(snapshot.snapshot_id, "vol-9"), workload="ebs")
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    os.truncate(image, GIB)
    assert_same(image, tmp_path / "back")


def test_a_volume_goes_from_one_account_to_another(cloud: Cloud, place: Place) -> None:
    content = blocks(0, 5, 6, 1999)
    cloud.front.add("snap-1", content, 1, "vol-1")
    back_up(place, cloud.source())
    bring_back(place, cloud.target(), b"vol-1", verify=True)
    assert cloud.made() == content


def test_an_empty_volume_is_a_snapshot_without_blocks(cloud: Cloud, place: Place) -> None:
    cloud.front.add("snap-1", {}, 2, "vol-1")
    done = back_up(place, cloud.source(size=2 * GIB))
    assert done.counts.bytes_read == 0
    bring_back(place, cloud.target(), verify=True)
    assert cloud.made() == {}


@pytest.mark.parametrize(
    ("operation", "key", "permission"),
    [
        ("StartSnapshot", False, "ebs:StartSnapshot"),
        ("StartSnapshot", True, "kms:CreateGrant"),
        ("PutSnapshotBlock", False, "ebs:PutSnapshotBlock"),
        ("CompleteSnapshot", False, "ebs:CompleteSnapshot"),
        ("ec2:DescribeSnapshots", False, "ec2:DescribeSnapshots"),
    ],
)
def test_a_restore_that_may_not_go_on_leaves_no_snapshot(
    cloud: Cloud, place: Place, operation: str, key: bool, permission: str
) -> None:
    cloud.front.add("snap-1", blocks(*range(9)), 1, "vol-1")
    back_up(place, cloud.source())
    (cloud.front.key_denied if key else cloud.front.denied).add(operation)
    with pytest.raises(PermissionMissing, match=permission):
        bring_back(place, cloud.target())
    assert list(cloud.front.snapshots) == ["snap-1"]


def test_lost_answers_and_late_snapshots_do_no_harm(cloud: Cloud, place: Place) -> None:
    content = blocks(*range(9))
    cloud.front.add("snap-1", content, 1, "vol-1")
    back_up(place, cloud.source())
    seen: set[str] = set()
    lock = threading.Lock()

    def trouble(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        with lock:
            first = request.method not in ("GET",) and request.path not in seen
            seen.add(request.path)
        if first and request.method == "PUT" and request.path.endswith("/3"):
            body = json.dumps({"Reason": "SNAPSHOT_NOT_FOUND", "message": "not yet"}).encode()
            return Answer(404, body, {"x-amzn-ErrorType": "ResourceNotFoundException"})
        answer = handle(request)
        if first and not request.path.startswith("/snapshots/completion"):
            raise HangUp  # carried out, and the answer lost
        return answer

    cloud.front.trouble = trouble
    bring_back(place, cloud.target())
    assert cloud.made() == content
    assert len(cloud.front.snapshots) == 2


@pytest.mark.parametrize("step", range(6))
def test_whatever_step_fails_no_snapshot_is_left(cloud: Cloud, place: Place, step: int) -> None:
    cloud.front.add("snap-1", blocks(0, 2, 4), 1, "vol-1")
    back_up(place, cloud.source())
    lock = threading.Lock()
    count = 0

    def broken(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        nonlocal count
        with lock:
            count += 1
            fails = count > step and b"Action=DeleteSnapshot" not in request.body
        if fails:
            return Answer(400, b"{}", {"x-amzn-ErrorType": "ValidationException"})
        return handle(request)

    cloud.front.trouble = broken
    with pytest.raises(DonjonError):
        bring_back(place, cloud.target())
    assert list(cloud.front.snapshots) == ["snap-1"]


def test_another_account_than_the_one_named_gets_nothing(cloud: Cloud, place: Place) -> None:
    cloud.front.add("snap-1", blocks(0), 1, "vol-1")
    back_up(place, cloud.source())
    with pytest.raises(Refused, match="of account 123456789012, not 210987654321"):
        bring_back(place, cloud.target("ebs://210987654321"))
    assert list(cloud.front.snapshots) == ["snap-1"]


def test_a_snapshot_that_ebs_cannot_complete(cloud: Cloud, place: Place) -> None:
    cloud.front.add("snap-1", blocks(0), 1, "vol-1")
    back_up(place, cloud.source())

    def fail(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        answer = handle(request)
        if "completion" in request.path:
            cloud.front.snapshots[request.path.rpartition("/")[2]].state = "error"
        return answer

    cloud.front.trouble = fail
    with pytest.raises(TargetFailed, match="EBS gave it up"):
        bring_back(place, cloud.target())
    assert list(cloud.front.snapshots) == ["snap-1"]


@pytest.mark.parametrize(
    "url",
    ["ebs://x/y", "ebs://x?zone=1", "ebs://x?encrypt=no", "s3://x", "ebs://[x", "ebs://x?region"],
)
def test_addresses_that_mean_nothing(url: str) -> None:
    with pytest.raises(UsageError, match=r"is no address|Invalid|bad query"):
        EbsAddress.parse(url)


def test_what_an_address_says() -> None:
    assert EbsAddress.parse("ebs://") == EbsAddress()
    assert EbsAddress.parse("ebs://backup?region=eu-west-1") == EbsAddress("backup", None, "eu-west-1")
    key = "arn:aws:kms:eu-west-1:123456789012:key/1"
    assert EbsAddress.parse(f"ebs://123456789012?kms={key}") == EbsAddress(
        None, "123456789012", None, encrypt=True, kms_key=key
    )


# -- the command line ----------------------------------------------------------------------------------


def test_a_snapshot_by_the_command_line_and_across(donjon: Donjon, cloud: Cloud, tmp_path: Path) -> None:
    content = blocks(0, 3, 2000)
    cloud.front.add("snap-1", content, 1, "vol-0abc")
    environment = {
        **USER.environment,
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    done = donjon.run(
        "backup", "--ebs-snapshot", "snap-1", "--workload", "db", "--json", environment=environment
    )
    assert json.loads(done.stdout)["bytes"] == GIB
    donjon.json("restore", "db@latest:/vol-0abc", "--to-device", tmp_path / "image")
    assert_same(image_of(tmp_path / "wanted", content), tmp_path / "image")
    done = donjon.run("restore", "db@latest:/vol-0abc", "--to", "ebs://", "--json", environment=environment)
    said = json.loads(done.stdout)
    assert cloud.made() == content
    assert said["made"].startswith("snap-")
    gone = donjon.run("backup", "--ebs-snapshot", "snap-none", environment=environment, code=1)
    assert b"snap-none" in gone.stderr
