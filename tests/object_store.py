"""Object storage for tests: servers of S3 (moto) and of GCS (gcp-storage-emulator) in processes of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
_GCS_SERVER = """
import logging, socket, sys
from gcp_storage_emulator.server import create_server
logging.disable(logging.ERROR)
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
create_server("127.0.0.1", port, in_memory=True).start()
print(port, flush=True)
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


@dataclass(frozen=True)
class GCSServer:
    """A running service at ``127.0.0.1:port``."""

    port: int

    def uri(self, path: str) -> str:
        """The URI of ``bucket/prefix``; nobody has to say who they are."""
        return f"gs://anonymous@{path}?scheme=http&endpoint_override=127.0.0.1:{self.port}"

    def bucket(self, name: str) -> str:
        """Make a bucket; its name."""
        _asked(f"http://127.0.0.1:{self.port}/storage/v1/b?project=tests", json.dumps({"name": name}).encode())
        return name


def _asked(url: str, body: bytes) -> None:
    urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).close()


@contextmanager
def s3_server(closed: bool = False) -> Iterator[S3Server]:
    """A service that ends with this process at the latest. ``closed``: to everybody."""
    with _serving(_SERVER, {"INITIAL_NO_AUTH_ACTION_COUNT": "0"} if closed else {}) as port:
        yield S3Server(port)


@contextmanager
def gcs_server() -> Iterator[GCSServer]:
    """A service that ends with this process at the latest."""
    with _serving(_GCS_SERVER, {}) as port:
        yield GCSServer(port)


@contextmanager
def _serving(script: str, environment: dict[str, str]) -> Iterator[int]:
    """A process that says its port and reads from a pipe of this one until that ends."""
    command, environment = [sys.executable, "-c", script], os.environ | environment
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


class Network:
    """The way to a service through a port of its own.

    It can be cut: connections end, new ones are refused. And it can be a proxy that answers everything by itself.
    """

    def __init__(self, port: int) -> None:
        self.cut, self.status = False, 0
        self._port, self._socket = port, socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_for(self, seconds: float) -> None:
        """Cut it now, for so long."""
        self.cut = True
        self._end()
        time.sleep(seconds)
        self.cut = False

    def answer(self, status: int) -> None:
        """From now on answer every request with this HTTP status and nothing else; 0: pass requests on."""
        self.status = status
        self._end()

    def answer_for(self, seconds: float, status: int) -> None:
        """Do so from now on, for so long."""
        self.answer(status)
        time.sleep(seconds)
        self.answer(0)

    def _end(self) -> None:
        for end in tuple(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            near, _ = self._socket.accept()
            if self.cut:
                near.close()
                continue
            if self.status:
                threading.Thread(target=self._refuse, args=(near,), daemon=True).start()
                continue
            far = socket.create_connection(("127.0.0.1", self._port))
            self._open |= {near, far}
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _refuse(self, near: socket.socket) -> None:
        """Read a request, whole or in part, and answer it."""
        with near, suppress(OSError):
            near.settimeout(1.0)
            near.recv(2**20)
            near.sendall(f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                sink.sendall(data)
        self._open -= {source, sink}
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def objects(place: ObjectPath) -> dict[str, bytes]:
    """Every object below a place by its relative name."""
    return {name: (place / name).read(2**30) for name in place.sizes()}
