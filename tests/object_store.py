"""An S3 service for tests: a server of moto in a process of its own, and buckets in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyarrow import fs

from dyncity.object_storage import ObjectPath

USER, PASSWORD = "the-user-of-tests", "the-password-of-tests"
_SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class S3Server:
    """A running service at ``127.0.0.1:port``."""

    port: int

    def uri(self, path: str) -> str:
        """The URI of ``bucket/prefix`` with credentials, as a user would give it."""
        options = f"endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"
        return f"s3://{USER}:{PASSWORD}@{path}?{options}"

    def bucket(self, name: str) -> str:
        """Make a bucket; its name."""
        system, _ = fs.FileSystem.from_uri(self.uri(name) + "&allow_bucket_creation=true")
        system.create_dir(name)
        return name


@contextmanager
def s3_server(closed: bool = False) -> Iterator[S3Server]:
    """A service that ends with this process at the latest: it reads from a pipe of it. ``closed``: to everybody."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        env=os.environ | ({"INITIAL_NO_AUTH_ACTION_COUNT": "0"} if closed else {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield S3Server(int(process.stdout.readline()))
        finally:
            process.kill()


def objects(place: ObjectPath) -> dict[str, bytes]:
    """Every object below a place by its relative name."""
    return {name: (place / name).read(2**30) for name in place.sizes()}
