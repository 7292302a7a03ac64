"""A cluster that comes and goes on this machine, for tests: Ray's own autoscaler, with nodes that are processes.

Node types, resources, limits and authentication are those of the shipped cluster.yaml. The GPUs exist in Ray's
books alone.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
HEAD_TYPE, HEAD_ID = "ray.head.default", "f" * 51 + "00000"  # the names that Ray's fake provider gives its head
IDLE_MINUTES = 0.1
# A busy machine may take minutes for what Ray gives seconds: a node must not count as lost for that.
PATIENT = {
    "RAY_raylet_start_wait_time_s": "900",
    "RAY_agent_register_timeout_ms": "900000",
    "RAY_worker_register_timeout_seconds": "900",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_failure_threshold": "30",
    "RAY_gcs_rpc_server_connect_timeout_s": "60",
}
# As many idle Python processes as a node has CPUs are of no use here, nor workers that wait for all others.
FRUGAL = {
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 1500.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come to that: {what}"
        time.sleep(0.3)  # looking at all processes is work as well


def arguments(pid: int) -> list[str]:
    """The command line of a process; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def processes() -> dict[int, list[str]]:
    """All processes of this machine and their command lines."""
    return {int(p.name): arguments(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit()}


def raylets(port: int) -> set[int]:
    """The processes that are nodes of the cluster whose head listens at ``port``."""
    return {
        pid
        for pid, words in processes().items()
        if words and words[0].endswith("/raylet") and any(word.endswith(f":{port}") for word in words)
    }


def children(parent: int, named: str) -> set[int]:
    """Children of a process whose command line starts with ``named``."""
    found = set()
    for pid, words in processes().items():
        with suppress(OSError, IndexError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            if words[0].startswith(named) and int(stat.rpartition(")")[2].split()[1]) == parent:
                found.add(pid)
    return found


def shipped() -> dict[str, Any]:
    """cluster.yaml."""
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def _simulated(port: int) -> dict[str, Any]:
    """cluster.yaml with its machines replaced by processes."""
    file = shipped()
    types = {
        HEAD_TYPE if name == file["head_node_type"] else name: {
            "resources": node["resources"],
            "min_workers": node["min_workers"],
            "max_workers": node["max_workers"],
            "node_config": {},
        }
        for name, node in file["available_node_types"].items()
    }
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": file["cluster_name"],
        "max_workers": file["max_workers"],
        "upscaling_speed": file["upscaling_speed"],
        "idle_timeout_minutes": IDLE_MINUTES,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "auth": {},
        "docker": {},
        "available_node_types": types,
        "head_node_type": HEAD_TYPE,
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{command}_commands": [] for command in commands},
    }


class Cloud:
    """A running cluster.

    Attributes:
        address: HOST:PORT, as ``--address`` takes it.
        environment: what a process needs to join it: the token.
    """

    def __init__(self, port: int, environment: dict[str, str]) -> None:
        self.port, self.address, self.environment = port, f"127.0.0.1:{port}", environment
        self.head: int | None = None

    def nodes(self) -> set[int]:
        """The worker nodes, by the process that each one is."""
        return raylets(self.port) - {self.head}

    def dyncity(self, *words: object, **environment: str) -> subprocess.Popen[str]:
        """The command, in a process of its own that can join the cluster."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "cli.py"), *map(str, words)],
            env={**os.environ, **PATIENT, "PYTHONPATH": str(ROOT), **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def cloud() -> Iterator[Cloud]:
    """A head without work, and an autoscaler that starts and stops worker nodes."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="cloud-", dir="/tmp"))  # sockets lie in it: their paths have to be short
    configuration = folder / "cluster.yaml"
    configuration.write_text(yaml.safe_dump(_simulated(port)))
    mode = next(o.rpartition("=")[2] for o in shipped()["docker"]["run_options"] if "RAY_AUTH_MODE" in o)
    running = Cloud(port, {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": secrets.token_hex(16)})
    environment = {
        **os.environ,
        **PATIENT,
        **FRUGAL,
        **running.environment,
        "PYTHONPATH": str(ROOT),
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
        "--node-ip-address=127.0.0.1", "--num-cpus=0", "--num-gpus=0", "--include-dashboard=false",
        f"--object-store-memory={80 * 2**20}", f"--temp-dir={folder / 'ray'}", f"--autoscaling-config={configuration}",
    ]  # fmt: skip
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: raylets(port) or head.poll() is not None, "a head")
        assert head.poll() is None, (folder / "head.log").read_text()[-2000:]
        (running.head,) = raylets(port)
        yield running
    finally:
        head.kill()  # asked to end, it would spend half a minute on taking leave of its nodes
        head.wait()
        for pid, words in processes().items():  # nodes, and what a killed one left behind
            if any(str(folder) in word for word in words):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
