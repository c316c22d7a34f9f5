"""Somebody with a key, and the clients that they use, at a server on this machine that speaks as AWS does."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class User:
    """Somebody whom a server knows by a key. ``token`` is that of a session, empty for a lasting key."""

    name: str
    access_key: str
    secret_key: str
    token: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The credential of this user, as the AWS tools read it; and nobody else's."""
        session = {"AWS_SESSION_TOKEN": self.token} if self.token else {}
        return session | {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, endpoint: str, region: str = "us-east-1") -> Any:
        """A plain client of the SDK that tries everything once."""
        from botocore.config import Config

        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
        return _session().client(
            service,
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            aws_session_token=self.token or None,
            config=config,
        )


@functools.cache
def _session() -> Any:
    """One for all clients, as it takes long to read what the services are."""
    import boto3

    return boto3.session.Session()
