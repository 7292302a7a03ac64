"""Files that were made to do harm: refused with one line, in bounded memory, nothing else touched."""

import io
import json
import os
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from dyncity.checkpoint import shipped_checkpoint
from dyncity.config_file import config_json
from dyncity.datasets.corpus import open_corpus, read_manifest
from dyncity.errors import InputError
from dyncity.presets import tiny
from exporters.manifest import write_manifest
from exporters.parquet import WRITER

ROOT = Path(__file__).parents[2]
DEEP = "[" * 10**6
ROOM = 2**30  # bytes of address space that reading may take beyond what the imports took

# What reads each kind of file, by the name of the function; run in one process without room for a bomb.
_READERS = """
import json, resource, sys
from pathlib import Path
from dyncity.checkpoint import load_checkpoint
from dyncity.config_file import override
from dyncity.datasets.argoverse2.tables import read_table
from dyncity.datasets.plain_pickle import load_plain_pickle
from dyncity.errors import InputError
from dyncity.inventory import describe
from dyncity.layout_file import read_layout
from dyncity.presets import tiny
from dyncity.regions import read_region
from dyncity.released import read_released
from dyncity.trajectory_file import read_trajectory
from dyncity.training.latents import open_latents
from exporters.cameras import read_cameras
from exporters.tree_listing import read_head, read_listing
config = tiny()
READERS = {
    "trajectory": lambda p: read_trajectory(p, 8, 5.0, 8), "region": read_region, "cameras": read_cameras,
    "layout": lambda p: read_layout(p, config), "yaml": lambda p: override(config, [], p),
    "checkpoint": load_checkpoint, "info": describe, "pickle": load_plain_pickle, "released": read_released,
    "listing": read_listing, "head": read_head, "latents": open_latents, "table": lambda p: read_table(p, ("x",)),
}
used = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
for line in sys.stdin:
    reader, path = line.split()
    try:
        READERS[reader](Path(path))
        found = "read"
    except InputError as error:
        found = f"refused: {error}"
    except BaseException as error:
        found = f"{type(error).__name__}: {error}"
    print(" ".join(found.split())[:2000], flush=True)
"""


def sparse(path: Path, size: int = 2**34) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def npy(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    """An array that declares a shape and holds nothing."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def png(side: int) -> bytes:
    """A picture that declares many pixels and holds few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def checkpoint(path: Path, weights: bytes | None = None, **changes: object) -> None:
    """The shipped checkpoint with other weights, or other values by dotted key."""
    path.mkdir()
    values = json.loads((shipped_checkpoint() / "config.json").read_text())
    for key, value in changes.items():
        node = values
        *parents, last = key.split("__")
        for parent in parents:
            node = node[parent]
        node[last] = value
    (path / "config.json").write_text(json.dumps(values))
    if weights is None:
        (path / "model.safetensors").symlink_to(shipped_checkpoint() / "model.safetensors")
    else:
        (path / "model.safetensors").write_bytes(weights)


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        file.writestr("archive/version", b"3\n")
        with file.open(zipfile.ZipInfo("archive/data/0"), "w", force_zip64=True) as part:
            for _ in range(64):
                part.write(bytes(2**20))
    data = path.read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, zipfile.ZipFile(io.BytesIO(data)) as old:
        for info in old.infolist():
            file.writestr(info.filename, old.read(info))


def table(path: Path) -> None:
    """A feather table of zeros whose column says that it inflates to more than it does."""
    feather.write_feather(pa.table({"x": np.zeros(2**20)}), path, compression="zstd", chunksize=2**20)
    data, declared = path.read_bytes(), struct.pack("<q", 2**23)
    assert data.count(declared + b"\x28\xb5\x2f\xfd") == 1
    path.write_bytes(data.replace(declared + b"\x28\xb5\x2f\xfd", struct.pack("<q", 2**34) + b"\x28\xb5\x2f\xfd"))


def text(value: str | bytes):
    return lambda path: path.write_bytes(value if isinstance(value, bytes) else value.encode())


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
HOSTILE = {
    "a trajectory nested": ("trajectory", "t.json", text(DEEP)),
    "a trajectory without end": ("trajectory", "t.json", sparse),
    "rows without end": ("trajectory", "t.csv", sparse),
    "an array of 8 TB": ("trajectory", "t.npy", text(npy((2**40, 3), "<f8"))),
    "an array as large as its file": (
        "trajectory",
        "t.npy",
        lambda p: (text(npy((2**30, 3)))(p), os.truncate(p, 2**32)),
    ),
    "an npz by the name of npy": ("trajectory", "t.npy", lambda p: np.savez(p.open("wb"), a=np.zeros(3))),
    "objects": ("layout", "l.npy", lambda p: np.save(p, np.array([{"a": 1}], object))),
    "a layout of 8 TB": ("layout", "l.npy", text(npy((6, 2**20, 2**20)))),
    "a picture of 16 GB": ("layout", "l.png", text(png(65_000))),
    "a picture of another kind": ("layout", "l.png", text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")),
    "agents nested": ("layout", "l.json", text(DEEP)),
    "a region nested": ("region", "r.json", text('{"boxes": ' + DEEP)),
    "a region without end": ("region", "r.json", sparse),
    "cameras nested": ("cameras", "c.json", text(DEEP)),
    "a tag that calls": ("yaml", "c.yaml", text("!!python/object/apply:os.mkdir [trace]")),
    "a value that calls": ("yaml", "c.yaml", text("clip: !!python/object/new:os.mkdir [trace]")),
    "a billion laughs": ("yaml", "c.yaml", text(LAUGHS + "clip: *j\n")),
    "YAML nested": ("yaml", "c.yaml", text("[" * 3000)),
    "YAML without end": ("yaml", "c.yaml", sparse),
    "a configuration nested": ("checkpoint", "c", lambda p: (checkpoint(p), (p / "config.json").write_text(DEEP))),
    "a configuration without end": ("checkpoint", "c", lambda p: (checkpoint(p), sparse(p / "config.json"))),
    "a wide DiT": ("checkpoint", "c", lambda p: checkpoint(p, dit__width=2**20, dit__heads=1)),
    "a DiT of half a million channels": ("checkpoint", "c", lambda p: checkpoint(p, dit__width=2**19, dit__heads=1)),
    "a deep DiT": ("checkpoint", "c", lambda p: checkpoint(p, dit__depth=10**9)),
    "a negative width": ("checkpoint", "c", lambda p: checkpoint(p, vae__channels=-1)),
    "a large grid": ("checkpoint", "c", lambda p: checkpoint(p, grid__shape=[2**15, 2**15, 2**10])),
    "clips without end": ("checkpoint", "c", lambda p: checkpoint(p, clip__frames=2**40)),
    "a header of an exabyte": ("checkpoint", "c", lambda p: checkpoint(p, struct.pack("<Q", 2**60) + b"{}")),
    "a header of 90 MB": ("info", "c", lambda p: checkpoint(p, struct.pack("<Q", 9 * 10**7) + b" " * 2**20)),
    "tensors beyond the file": (
        "checkpoint",
        "c",
        lambda p: checkpoint(
            p,
            (lambda h: struct.pack("<Q", len(h)) + h)(
                b'{"vae.x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
            ),
        ),
    ),
    "a pickle that calls": ("pickle", "p.pkl", text(b"cos\nmkdir\n(S'trace'\ntR.")),
    "a pickle with a memo of 30 GB": ("pickle", "p.pkl", text(b"\x80\x02Nr\xff\xff\xff\x7f.")),
    "a pickle of 8 EB": ("pickle", "p.pkl", text(b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.")),
    "weights that call": ("released", "w.ckpt", text(b"\x80\x02cos\nmkdir\nU\x05trace\x85R.")),
    "weights that inflate": ("released", "w.ckpt", archive),
    "weights with a header of an exabyte": ("released", "w.safetensors", text(struct.pack("<Q", 2**60) + b"{}")),
    "a table of 16 GB": ("table", "t.feather", table),
    "a listing nested": ("listing", "t.scenes.json", text(DEEP)),
    "a listing without end": ("listing", "t.scenes.json", sparse),
    "a listing of one line": ("listing", "t.scenes.json", lambda p: sparse(p, 2**29)),
    "a scene of a listing nested": ("listing", "t.scenes.json", text('{\n"scenes": [\n' + DEEP)),
    "a scene of lists": ("listing", "t.scenes.json", text('{\n"scenes": [\n{"files": [' + "[]," * 20 * 2**20 + "\n")),
    "the head of a listing without end": ("head", "t.scenes.json", sparse),
    "the head of a listing nested": ("head", "t.scenes.json", text(DEEP + '\n"scenes": [\n')),
    "weights that are a pipe": (
        "checkpoint",
        "c",
        lambda p: (checkpoint(p), (p / "model.safetensors").unlink(), os.mkfifo(p / "model.safetensors")),
    ),
    "a digest that is a pipe": (
        "checkpoint",
        "c",
        lambda p: (checkpoint(p), os.mkfifo(p / "model.safetensors.sha256")),
    ),
    "an array that is a pipe": ("trajectory", "t.npy", os.mkfifo),
    "latents that are a pipe": (
        "latents",
        "l",
        lambda p: (
            p.mkdir(),
            (p / "config.json").write_text(config_json(tiny())),
            (p / "latents.json").write_text("{}"),
            os.mkfifo(p / "rollout.npy"),
        ),
    ),
    "metrics that are a pipe": (
        "info",
        "r",
        lambda p: (
            (p / "checkpoints").mkdir(parents=True),
            (p / "config.json").write_text(config_json(tiny())),
            os.mkfifo(p / "metrics.jsonl"),
        ),
    ),
    "latents nested": (
        "latents",
        "l",
        lambda p: (
            p.mkdir(),
            (p / "config.json").write_text(config_json(tiny())),
            (p / "latents.json").write_text(DEEP),
        ),
    ),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the readers say of every hostile file, all in one process without room; the folder that it ran in."""
    folder = tmp_path_factory.mktemp("hostile")
    work = folder / "work"
    work.mkdir()
    lines = []
    for number, (reader, name, write) in enumerate(HOSTILE.values()):
        (folder / str(number)).mkdir()
        write(folder / str(number) / name)
        lines.append(f"{reader} {folder / str(number) / name}\n")
    before = sorted(str(path) for path in folder.rglob("*"))
    ended = subprocess.run(
        [sys.executable, "-c", _READERS, str(ROOM)],
        input="".join(lines),
        capture_output=True,
        text=True,
        cwd=work,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        timeout=300,
        check=False,
    )
    after = sorted(str(path) for path in folder.rglob("*"))
    assert after == before
    said = ended.stdout.splitlines()
    assert len(said) == len(HOSTILE), f"it died of {list(HOSTILE)[len(said)]!r}: {ended.stderr[-500:]}"
    return dict(zip(HOSTILE, said, strict=True))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_without_room_for_it(answers, name):
    assert answers[name].startswith("refused: ")
    assert len(answers[name]) < 1000


def _by_dictionary(table: pa.Table, **values: object) -> pa.Table:
    """A table whose columns repeat one value in every row, by a dictionary."""
    for name, value in values.items():
        kind = table.schema.field(name).type
        column = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), pa.array([value], kind))
        index = table.schema.get_field_index(name)
        table = table.set_column(index, pa.field(name, column.type, nullable=False), column)
    return table


def _write(folder: Path, table: pa.Table, **options: object) -> None:
    """The table as the one shard of a corpus, in one row group, with the settings that shards are written with."""
    path = folder / "shards/00000.parquet"
    with pq.ParquetWriter(path, table.schema, store_schema=False, **(WRITER | options)) as writer:
        writer.write_table(table, row_group_size=len(table))
    manifest = read_manifest(folder)
    shard = replace(manifest.shards[0], bytes=path.stat().st_size)
    write_manifest(folder, replace(manifest, shards=(shard,)))


def _read_in_little(folder: Path, most: int) -> None:
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(InputError, match=r"00000\.parquet"):
            list(open_corpus(folder).scenes())
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < most


def test_one_value_for_every_row_does_not_become_many(make_scene, write_corpus, tmp_path):
    """4,000 frames that share a dictionary value of all their sizes together: 3 GB from a few kB."""
    folder = write_corpus(tmp_path / "c", [make_scene(0, frames=4000)])
    table = pq.read_table(folder / "shards/00000.parquet")
    bomb = _by_dictionary(table, semantics=bytes(192 * 4000))
    _write(folder, bomb, use_dictionary=["scene_id", "command", "provenance", "semantics"])
    assert (folder / "shards/00000.parquet").stat().st_size < 2**20
    _read_in_little(folder, 2**24)


def test_a_long_text_for_every_row_does_not_become_many(make_scene, write_corpus, tmp_path):
    """4,000 frames that share a provenance of 3 MB: 12 GB."""
    folder = write_corpus(tmp_path / "c", [make_scene(0, frames=4000)])
    table = pq.read_table(folder / "shards/00000.parquet")
    _write(folder, _by_dictionary(table, provenance=" " * (3 * 2**20)))
    _read_in_little(folder, 2**28)


@pytest.mark.parametrize("change", ["size", "kind", "count", "endless"])
def test_a_page_that_says_more_than_the_footer_is_refused(make_scene, write_corpus, tmp_path, change):
    folder = write_corpus(tmp_path / "c", [make_scene(0)])
    path = folder / "shards/00000.parquet"
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunk = next(group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == "semantics")
    data = bytearray(path.read_bytes())
    start = chunk.data_page_offset
    # 15 00: kind 0; 15 and a varint: bytes inflated; 15 and a varint: bytes stored.
    assert data[start : start + 3] == b"\x15\x00\x15"
    if change == "size":
        data[start + 3] |= 0x80
        data[start + 4] |= 0x7F
    elif change == "kind":
        data[start + 1] = 4
    elif change == "endless":
        data[start : start + 40] = b"\x15" + b"\xff" * 39
    else:
        place = data.index(b"\x1c\x15", start)  # the header of the data page: its number of values
        data[place + 2] = 0x7E
    path.write_bytes(data)
    _read_in_little(folder, 2**23)


def test_peak_of_this_process_is_known():
    """The limit above is in force: a process under it that allocates what a bomb asks for fails."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({ROOM}, {ROOM})); bytearray({2 * ROOM})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MemoryError" in ended.stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
