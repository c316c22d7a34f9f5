"""What holds for all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from donjon.testing.aws.ministack import MiniStack, ministack
from donjon.testing.aws.moto import moto
from donjon.testing.aws.seaweedfs import SeaweedFs, seaweedfs
from donjon.testing.servers.openbao import OpenBao, openbao
from donjon.testing.servers.postgres import PostgresServer, postgres
from donjon.testing.servers.softhsm import SoftHsm, make_softhsm

# A shell starts what it puts in the background with Ctrl-C ignored, and every process started from there
# inherits that. The tests press it, wherever they were started.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def running_seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFs]:
    """One S3 server for all tests."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="module")
def s3_server(running_seaweedfs: SeaweedFs) -> Iterator[SeaweedFs]:
    """The same, for tests that make buckets of their own; its credential is in the environment.

    For each module anew: a fixture that set such variables first takes them away when it ends.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running_seaweedfs.environment.items():
            patch.setenv(name, value)
        yield running_seaweedfs


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniStack]:
    """AWS with several accounts, for all tests; none of its credentials is in the environment."""
    with ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """AWS without any rights, for all tests: what its KMS enforces is in ``donjon.testing.aws.moto``."""
    with moto(tmp_path_factory.mktemp("moto")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """One OpenBao for all tests, which make keys and tokens of their own."""
    with openbao(tmp_path_factory.mktemp("openbao")) as server:
        yield server


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """Tokens of PKCS #11 for all tests. A process reads the configuration of SoftHSM2 once."""
    with pytest.MonkeyPatch.context() as patch:
        made = make_softhsm(tmp_path_factory.mktemp("softhsm"))
        patch.setenv("SOFTHSM2_CONF", made.environment["SOFTHSM2_CONF"])
        yield made


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests, which make databases of their own. Who stops it takes another."""
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server
