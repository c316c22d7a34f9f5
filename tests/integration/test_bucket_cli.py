"""Buckets with the real command: backed up, killed, restored into folders and other buckets."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from donjon.clouds.objects.address import BucketAddress
from donjon.clouds.objects.azure import AzureObjects
from donjon.clouds.objects.base import Metadata, Objects
from donjon.clouds.objects.gcs import GcsObjects
from donjon.clouds.objects.s3 import S3Objects
from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.azure.account import ACCOUNT, KEY, azurite
from donjon.testing.conformance.objects import KEYS
from donjon.testing.google.bucket import fake_gcs_server
from tests.integration.buckets import contents_of, put_all
from tests.integration.cli import Donjon, end
from tests.integration.cloud import CloudHost
from tests.integration.engine import fill

MIB = 1 << 20


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str]]:
    """A connection string of Azurite, and the address of a fake of Google's."""
    with azurite() as azure_port, fake_gcs_server() as google_port:
        told = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        yield (
            told + f"BlobEndpoint=http://127.0.0.1:{azure_port}/{ACCOUNT};",
            f"http://127.0.0.1:{google_port}",
        )


@pytest.fixture
def command(donjon: Donjon, servers: tuple[str, str], s3_server: SeaweedFs) -> CloudHost:
    """A host with a vault in a folder that reaches all three providers."""
    variables = {
        "AZURE_STORAGE_CONNECTION_STRING": servers[0],
        "STORAGE_EMULATOR_HOST": servers[1],
        "GOOGLE_CLOUD_PROJECT": "test",
        **s3_server.environment,
    }
    return CloudHost(donjon.folder, variables=tuple(variables.items()))


@pytest.fixture
def bucket(s3_server: SeaweedFs) -> Iterator[S3Objects]:
    with contextlib.closing(new_s3(s3_server.make_bucket(locks=False), s3_server.endpoint)) as made:
        yield made


def new_s3(name: str, endpoint: str, prefix: str = "") -> S3Objects:
    made = S3Objects(BucketAddress.parse(f"s3://{name}/{prefix}?endpoint={endpoint}"))
    made.address = f"s3://{name}/{prefix}?endpoint={endpoint}"  # type: ignore[attr-defined]
    return made


def address(objects: Objects) -> str:
    told: str = getattr(objects, "address", objects.url)
    return told


@pytest.fixture(params=["s3", "azure", "google"])
def elsewhere(
    request: pytest.FixtureRequest, s3_server: SeaweedFs, servers: tuple[str, str], tmp_path: Path
) -> Iterator[Objects]:
    """An empty place in a bucket of each provider, which holds something else as well."""
    name = f"to-{os.path.basename(tmp_path).replace('_', '-')}"[:40].lower().strip("-")
    made: Any
    if request.param == "s3":
        made = new_s3(s3_server.make_bucket(locks=False), s3_server.endpoint, "in/here")
    elif request.param == "azure":
        made = AzureObjects(
            BucketAddress.parse(f"azure://{ACCOUNT}/{name}/in/here"), connection_string=servers[0]
        )
        made._service.create_container(name)
    else:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        client = storage.Client(
            project="test",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # Google's own
            client_options={"api_endpoint": servers[1]},
        )
        client.create_bucket(name)
        made = GcsObjects(BucketAddress.parse(f"gs://{name}/in/here"), client=client)
    made.put("other", b"stays", Metadata(), replace=False)
    yield made
    assert made.read(made.look("other")[0]).data == b"stays"
    made.close()


def test_a_bucket_comes_into_any_provider_s_bucket(
    command: CloudHost, bucket: S3Objects, elsewhere: Objects
) -> None:
    metadata = Metadata(
        content_type="text/plain", content_language="de", cache_control="no-store", user={"owner": "ops"}
    )
    contents = {f"d{number % 5}/k{number:03}.txt": b"%d" % number * 500 for number in range(120)}
    put_all(bucket, contents, metadata)
    put_all(bucket, {"tagged": b"1"}, Metadata(user={"with-dash": "x"}, tags={"team": "a"}))
    put_all(bucket, {"large": os.urandom(9) * (2 * MIB)}, Metadata(content_type="image/x"))
    contents |= {"tagged": b"1", "large": contents_of(bucket)["large"]}
    made = command.json("backup", "--bucket", address(bucket))
    assert (made["files"], made["errors"], made["workload"]) == (122, [], bucket.url)
    told = command.run("restore", "latest", "--to", address(elsewhere), "--verify", "--json")
    done = json.loads(told.stdout)
    assert (done["files"], done["kept"], done["verified"]) == (122, 0, 122)
    assert contents_of(elsewhere) == contents
    found = elsewhere.look(elsewhere.prefix + "d1/k001.txt")
    assert found is not None
    assert (found[1].content_type, found[1].content_language) == ("text/plain", "de")
    assert (found[1].cache_control, found[1].user) == ("no-store", {"owner": "ops"})
    large = elsewhere.look(elsewhere.prefix + "large")
    assert large is not None
    assert large[1].content_type == "image/x"
    listed = {row.key: row for page in elsewhere.pages() for row in page}
    tagged = elsewhere.read(listed[elsewhere.prefix + "tagged"]).metadata
    assert tagged.tags == ({} if elsewhere.provider == "gs" else {"team": "a"})
    lost = {"azure": b"metadata with-dash", "gs": b"1 of 1 tags", "s3": b""}[elsewhere.provider]
    assert lost in told.stderr
    assert (b"left out, of 1 items" in told.stderr) == bool(lost)
    again = command.run("restore", "latest", "--to", address(elsewhere))
    assert b"kept 122" in again.stdout


def test_a_folder_comes_into_a_bucket(command: CloudHost, elsewhere: Objects, tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, 40, 8, size_bytes=9000)
    (source / "page.html").write_text("<p>hello")
    (source / "link").symlink_to("page.html")
    os.link(source / "page.html", source / "same.html")
    with (source / "sparse").open("wb") as file:
        file.truncate(20 * MIB)
        file.seek(9 * MIB)
        file.write(b"in the middle")
    command.run("backup", source)
    done = command.json("restore", f"latest:{source}", "--to", address(elsewhere), code=3)
    assert [row["path"] for row in done["problems"]] == ["/link"]
    wanted = {
        str(path.relative_to(source)): path.read_bytes()
        for path in source.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert contents_of(elsewhere) == wanted
    page = elsewhere.look(elsewhere.prefix + "page.html")
    assert page is not None
    assert page[1].content_type == "text/html"


def test_hostile_keys_stay_inside_a_folder_and_come_back_into_a_bucket(
    command: CloudHost, moto_endpoint: str, tmp_path: Path
) -> None:
    keys = {*KEYS, "../../../escaped", "/etc/passwd", "a/", "//", "ü" * 500, "x/" * 300 + "y"}
    with contextlib.ExitStack() as stack:
        source, target = (
            stack.enter_context(contextlib.closing(new_s3(name, moto_endpoint))) for name in ("from", "back")
        )
        for made in (source, target):
            made._client.create_bucket(Bucket=made._bucket)
        contents = {key: key.encode() for key in keys}
        put_all(source, contents)
        assert command.json("backup", "--bucket", address(source))["errors"] == []
        out = tmp_path / "deep" / "out"
        done = command.json("restore", "latest", out)
        assert (done["files"], done["problems"]) == (len(keys), [])
        assert sorted(path.name for path in out.parent.iterdir()) == ["out"]
        assert [path.name for path in out.iterdir()] == ["objects"]
        assert sorted(path.read_bytes() for path in out.rglob("*") if path.is_file()) == sorted(
            contents.values()
        )
        assert command.json("restore", "latest", "--to", address(target))["files"] == len(keys)
        assert contents_of(target) == contents


def test_nothing_is_overwritten_unless_told(
    command: CloudHost, bucket: S3Objects, s3_server: SeaweedFs
) -> None:
    put_all(bucket, {"same": b"1" * 100, "other": b"2" * 100, "large": b"3" * 5 * MIB})
    command.run("backup", "--bucket", address(bucket))
    with contextlib.closing(new_s3(s3_server.make_bucket(locks=False), s3_server.endpoint)) as target:
        put_all(target, {"same": b"1" * 100, "other": b"mine", "large": b"mine"})
        before = {row.key: row for page in target.pages() for row in page}
        refused = command.run("restore", "latest", "--to", address(target), "--record", code=2)
        assert b"holds something" in refused.stderr
        assert command.json("restore", "latest", "--to", address(target))["kept"] == 3
        assert {row.key: row for page in target.pages() for row in page} == before
        done = command.json("restore", "latest", "--to", address(target), "--overwrite", "if-different")
        assert (done["files"], done["kept"]) == (2, 1)
        assert contents_of(target) == contents_of(bucket)
        done = command.json("restore", "latest", "--to", address(target), "--overwrite", "always")
        assert (done["files"], done["kept"]) == (3, 0)


def test_older_versions_are_left_out_of_buckets_and_come_into_folders(
    command: CloudHost, s3_server: SeaweedFs, tmp_path: Path
) -> None:
    with (
        contextlib.closing(new_s3(s3_server.make_bucket(), s3_server.endpoint)) as source,
        contextlib.closing(new_s3(s3_server.make_bucket(locks=False), s3_server.endpoint)) as target,
    ):
        for text in (b"one", b"two"):
            put_all(source, {"a": text})
        command.run("backup", "--bucket", address(source), "--versions", "all")
        told = command.run("restore", "latest", "--to", address(target))
        assert b"older version" in told.stderr
        assert contents_of(target) == {"a": b"two"}
        command.run("restore", "latest:/versions", tmp_path / "out")
        (older,) = (tmp_path / "out" / "a").iterdir()
        assert older.read_bytes() == b"one"
        refused = command.json("restore", "latest:/versions", "--to", address(target), code=3)
        assert "path of no key" in refused["problems"][0]["reason"]


def test_a_backup_that_is_killed_leaves_nothing_and_the_next_one_goes_on(
    command: CloudHost, bucket: S3Objects, tmp_path: Path
) -> None:
    put_all(bucket, {f"k{number:04}": os.urandom(20_000) for number in range(400)})
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    variables = (*command.variables, ("TMPDIR", str(temporary)), ("SQLITE_TMPDIR", str(temporary)))
    killed = CloudHost(command.folder, variables=variables)
    process = killed.start("backup", "--bucket", address(bucket))
    packs = command.vault / "packs"
    while process.poll() is None and not any(path.is_file() for path in packs.rglob("*")):
        time.sleep(0.005)
    end(process)
    assert list(temporary.iterdir()) == []
    made = killed.json("backup", "--bucket", address(bucket))
    assert (made["files"], made["errors"]) == (400, [])
    assert list(temporary.iterdir()) == []
    command.run("verify", "--data", "100")


def test_permissions_are_named(
    command: CloudHost, bucket: S3Objects, s3_server: SeaweedFs, tmp_path: Path
) -> None:
    put_all(bucket, {"a": b"1"})
    rows = [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket._bucket}/*"}]
    user = s3_server.make_user({"Version": "2012-10-17", "Statement": rows})
    told = command.run("backup", "--bucket", address(bucket), code=11, environment=user.environment)
    assert b"s3:ListBucket" in told.stderr
    command.run("backup", "--bucket", address(bucket))
    told = command.run(
        "restore", "latest", "--to", address(bucket) + "", "--overwrite", "always", code=11,
        environment=user.environment,
    )  # fmt: skip
    assert b"s3:PutObject" in told.stderr


def test_no_credentials_at_all(host: Donjon) -> None:
    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    told = host.run(
        "backup",
        "--bucket",
        "s3://bucket?endpoint=http://127.0.0.1:1",
        "--vault",
        host.folder,
        code=11,
        environment=nothing,
    )
    assert b"no usable credentials" in told.stderr


WRONG = [
    (("backup", "--bucket", "s3://"), "names no bucket"),
    (("backup", "--bucket", "ftp://x/y"), "no address of a bucket"),
    (("backup", "--bucket", "s3://key:secret@bucket/x"), "end up in logs"),
    (("backup", "--bucket", "gs://bucket?endpoint=http://x"), "option"),
    (("backup", "--bucket", "azure://account"), "names no bucket"),
    (("backup", "--bucket", "s3://bucket", "/etc"), "do not go together"),
    (("backup", "/etc", "--versions", "all"), "needs --bucket"),
    (("restore", "latest"), "a restore has one target"),
    (("restore", "latest", "/x", "--to", "s3://bucket"), "a restore has one target"),
    (("restore", "latest", "--to", "s3://bucket", "--dry-run"), "--dry-run"),
]


def test_wrong_usage(host: Donjon) -> None:
    for arguments, says in WRONG:
        told = host.run(*arguments, "--vault", host.folder, code=2).stderr.decode()
        assert says in " ".join(told.split())
        assert "secret@" not in told
