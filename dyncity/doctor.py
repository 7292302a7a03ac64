"""What this machine and installation can do, checked one thing at a time."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement

from dyncity import __version__
from dyncity.errors import InputError

_GIB = 2**30


class Check(NamedTuple):
    """One line of the table: what was checked, how it stands, what was found."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str


def examine(smoke: Callable[[], str]) -> Iterator[Check]:
    """All checks, one after the other; none raises.

    Args:
        smoke: a short piece of real work; what it returns is shown, what it raises is a failure.
    """
    for check in (_python, _packages, _cores, _memory, _shared_memory, _devices, _disk):
        try:
            yield from check()
        except Exception as error:  # a check that breaks is a finding, not a crash
            yield Check(check.__name__.strip("_"), "fail", _reason(error))
    try:
        yield Check("smoke run", "ok", smoke())
    except Exception as error:
        yield Check("smoke run", "fail", _reason(error))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def _python() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> Iterator[Check]:
    """Installed versions against the ranges that the package asks for."""
    yield Check("dyncity", "ok", __version__)
    try:
        requirements = importlib.metadata.requires("dyncity") or []
    except importlib.metadata.PackageNotFoundError:
        yield Check("packages", "warn", "run from the sources: pip install . says which versions fit")
        return
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            yield Check(wanted.name, "fail", f"not installed; pip install '{wanted.name}{wanted.specifier}'")
            continue
        good = wanted.specifier.contains(found, prereleases=True)
        detail = found if good else f"{found}; pip install '{wanted.name}{wanted.specifier}'"
        yield Check(wanted.name, "ok" if good else "warn", detail)


def _cores() -> Iterator[Check]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("CPU cores", "ok", str(usable))


def _memory() -> Iterator[Check]:
    """Memory that this process may still use: the machine's, or less where a cgroup says so."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    enough = free >= 3 * _GIB
    detail = f"{free / _GIB:.1f} GiB free" + ("" if enough else "; runs want 3 GiB")
    yield Check("memory", "ok" if enough else "warn", detail)


def _shared_memory() -> Iterator[Check]:
    """Ray keeps its object store in /dev/shm; containers often give it 64 MB."""
    if os.path.ismount("/dev/shm"):
        size = shutil.disk_usage("/dev/shm").total
        enough = size >= 200 * 2**20
        detail = f"{size / _GIB:.1f} GiB" + ("" if enough else "; start the container with --shm-size=1g")
        yield Check("/dev/shm", "ok" if enough else "warn", detail)


def _devices() -> Iterator[Check]:
    import torch

    from dyncity.models.attention import resolve_backend

    count = torch.cuda.device_count()
    names = ", ".join(sorted({torch.cuda.get_device_name(i) for i in range(count)}))
    yield Check("GPUs", "ok", f"{count} ({names})" if count else "none: training and sampling use the CPU")
    device = torch.device("cuda" if count else "cpu")
    for backend in ("flash_attn", "fa4"):
        try:
            yield Check(backend, "ok", f"usable in bfloat16 ({resolve_backend(backend, device, 'bfloat16')})")
        except InputError as error:
            yield Check(backend, "ok", f"not used: {error.found}")
    for precision in ("float32", "bfloat16"):
        yield Check(f"attention auto, {precision}", "ok", resolve_backend("auto", device, precision))


def _disk() -> Iterator[Check]:
    free = shutil.disk_usage(Path.cwd()).free
    enough = free >= 2 * _GIB
    detail = f"{free / _GIB:.1f} GiB free in {Path.cwd()}"
    yield Check("disk", "ok" if enough else "warn", detail if enough else f"{detail}; a run wants 2 GiB")
