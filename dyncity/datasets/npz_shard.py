"""Reading one NumPy shard: a folder of ``<scene_id>.npz``, never unpickled, bounded by its headers."""

from __future__ import annotations

import math
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dyncity.bounded_files import check_members, npy_header
from dyncity.conditions import Conditions, Layout
from dyncity.datasets.layout import (
    MAX_TEXT_BYTES,
    VOXEL_DTYPES,
    ShardLayout,
    check_frames,
    check_scene_id,
    read_layout,
    read_provenance,
)
from dyncity.datasets.layout_maps import unpack_layout
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from dyncity.scene import Boxes, OccupancyScene

_MAX_BOXES = 2**24
BOX_FIELDS: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
    "frame": (np.dtype("<i4"), ()),
    "track": (np.dtype("<i4"), ()),
    "label": (np.dtype("u1"), ()),
    "center": (np.dtype("<f4"), (3,)),
    "size": (np.dtype("<f4"), (3,)),
    "yaw": (np.dtype("<f4"), ()),
}


class NpzShard:
    """One NumPy shard. A group is one file: a scene.

    Args:
        path: its folder, which errors name.
        files: how to open each of its files; None: those that are in the folder, links refused.

    Raises:
        InputError: (by every method) damage, or contents that are not what the file declares.
    """

    def __init__(self, path: Path | ObjectPath, files: Mapping[str, Callable[[], BinaryIO]] | None = None) -> None:
        self.path = path
        self._open = _plain_files(path) if files is None else dict(sorted(files.items()))
        self._files: list[str] = []
        for name in self._open:
            if not name.endswith(".npz"):
                raise InputError(path / name, "it is no npz of a shard", "remove it")
            self._files.append(check_scene_id(name.removesuffix(".npz"), str(path / name)))
        if not self._files:
            raise InputError(path, "it holds no scene", "restore or remake the shard")
        with self._npz(self._files[0]) as npz:
            self.layout: ShardLayout = npz.layout()

    def _npz(self, scene_id: str) -> _Npz:
        name = f"{scene_id}.npz"
        return _Npz(self.path / name, self._open[name])

    def index(self) -> list[tuple[str, int, int]]:
        """(scene id, group, frames) of every scene in order, from the headers alone."""
        entries = []
        for group, scene_id in enumerate(self._files):
            with self._npz(scene_id) as npz:
                entries.append((scene_id, group, npz.frames()))
        return entries

    def read(self, group: int) -> Iterator[OccupancyScene]:
        """The one scene of a group."""
        scene_id = self._files[group]
        with self._npz(scene_id) as npz:
            layout = npz.layout()
            if layout != self.layout:
                raise InputError(npz.path, "its grid is not that of its neighbours", "restore the file")
            yield npz.scene(scene_id, layout)


def _plain_files(path: Any) -> dict[str, Callable[[], BinaryIO]]:
    """The files of a folder by name, each with what opens it; anything but plain files is refused."""
    try:
        entries = sorted(os.scandir(path), key=lambda e: e.name)
    except OSError as error:
        raise InputError(path, f"not readable ({error.strerror})", "restore or remake the shard") from None
    for entry in entries:
        if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            raise InputError(entry.path, "it is no npz of a shard", "remove it")
    return {entry.name: _opening(entry.path) for entry in entries}


def _opening(path: str) -> Callable[[], BinaryIO]:
    return lambda: open(path, "rb")


class _Npz:
    """One open npz file: arrays are read only after their headers agree with what is expected."""

    def __init__(self, path: Path | ObjectPath, opened: Callable[[], BinaryIO]) -> None:
        self.path = path
        with self._damage(), ExitStack() as kept:
            self._zip = kept.enter_context(zipfile.ZipFile(kept.enter_context(opened())))
            check_members(self._zip)
            self._names = [info.filename for info in self._zip.infolist()]
            if len(set(self._names)) != len(self._names):
                raise InputError(path, "an array is there twice", "restore the file")
            self._kept = kept.pop_all()

    def __enter__(self) -> _Npz:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Whatever goes wrong while reading is bad input, named by the file."""
        try:
            yield
        except InputError as error:
            if str(self.path) in error.where:
                raise
            raise InputError(f"{self.path}, {error.where}", error.found, "restore or remake the shard") from None
        except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(self.path, f"it is damaged ({error})"[:300], "restore or remake the shard") from None
        except (KeyError, RuntimeError, OverflowError, SyntaxError, TypeError) as error:
            raise InputError(self.path, f"it is no npz of a shard ({error})"[:300], "restore the file") from None

    def _array(
        self, name: str, dtype: np.dtype[Any] | None, shape: tuple[int | None, ...], most: int = _MAX_BOXES
    ) -> NDArray[Any]:
        """One array of exactly that type and shape (None: any length up to ``most``; dtype None: text)."""
        with self._damage(), self._zip.open(f"{name}.npy") as file:
            found_shape, found = _header(file)
            fits = len(found_shape) == len(shape) and all(
                0 <= n <= most if want is None else n == want for n, want in zip(found_shape, shape, strict=True)
            )
            text = dtype is None and found.kind == "U" and found.itemsize <= 4 * MAX_TEXT_BYTES
            if not fits or not (text or found == dtype):
                wanted = "text" if dtype is None else dtype
                raise InputError(
                    self.path,
                    f"{name} is {found} {found_shape}, expected {wanted} {shape}",
                    "restore or remake the shard",
                )
            size = found.itemsize * math.prod(found_shape)
            data = file.read(size)
            if len(data) != size or file.read(1):
                raise InputError(self.path, f"{name} does not have {size} bytes", "restore or remake the shard")
            array = np.frombuffer(data, found).reshape(found_shape)
            return array.astype(found.newbyteorder("="))

    def _text(self, name: str) -> str:
        return str(self._array(name, None, ())[()])

    def layout(self) -> ShardLayout:
        """What the file says of itself."""
        return read_layout(self._text("meta"), str(self.path))

    def frames(self) -> int:
        """Number of frames, from the header of ``frame``."""
        with self._damage(), self._zip.open("frame.npy") as file:
            shape, _ = _header(file)
        if len(shape) != 1:
            raise InputError(self.path, f"frame has shape {shape}", "restore the file")
        return shape[0]

    def scene(self, scene_id: str, layout: ShardLayout) -> OccupancyScene:
        """The scene in the file."""
        frames = self.frames()
        check_frames(frames, layout, str(self.path))
        if self._text("scene_id") != scene_id:
            raise InputError(self.path, "it holds a scene of another name", "restore the file")
        if (self._array("frame", np.dtype("<i4"), (frames,)) != np.arange(frames)).any():
            raise InputError(self.path, "its frames are not 0, 1, 2 ...", "restore the file")
        shape = (frames, *layout.grid.shape)
        voxels = {name: self._array(name, VOXEL_DTYPES[name], shape) for name in layout.voxel_columns}
        has = {name.removesuffix(".npy") for name in self._names}
        trajectory = self._array("trajectory", np.dtype("<f8"), (frames, 3)) if "trajectory" in has else None
        command = self._text("command") if "command" in has else None
        grid_yaw = float(self._array("grid_yaw", np.dtype("<f8"), ())) if "grid_yaw" in has else None
        maps = self._maps(frames, layout) if {"layout", "layout_given"} & has else None
        provenance = read_provenance(self._text("provenance"), str(self.path))
        poses = self._array("ego_to_world", np.dtype("<f8"), (frames, 4, 4))
        times = self._array("timestamp_us", np.dtype("<i8"), (frames,))
        boxes = self._boxes() if "boxes" in layout.columns else None
        with self._damage():
            return OccupancyScene(
                scene_id=scene_id,
                poses=poses,
                grid=layout.grid,
                taxonomy=layout.taxonomy,
                timestamps_us=times,
                conditions=Conditions(command, trajectory, maps, grid_yaw=grid_yaw),  # type: ignore[arg-type]
                anchor=layout.anchor,
                boxes=boxes,
                provenance=provenance,
                **voxels,
            )

    def _maps(self, frames: int, layout: ShardLayout) -> Layout:
        """The layout of the scene, from its packed maps."""
        if layout.maps_grid is None:
            raise InputError(self.path, "it has a layout that its description does not know", "restore the file")
        packed = self._array("layout", np.dtype("u1"), (frames, layout.packed_bytes))
        given = self._array("layout_given", np.dtype("u1"), ())
        with self._damage():
            return unpack_layout(packed, int(given), layout.maps_grid, layout.maps_anchor)

    def _boxes(self) -> Boxes:
        frame_type, _ = BOX_FIELDS["frame"]
        frame = self._array("boxes_frame", frame_type, (None,))
        rest = {
            name: self._array(f"boxes_{name}", dtype, (len(frame), *tail))
            for name, (dtype, tail) in BOX_FIELDS.items()
            if name != "frame"
        }
        return Boxes(frame=frame, **rest)


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type that an npy file declares.

    Raises:
        ValueError: no npy, Fortran order, or a type that would need unpickling.
    """
    shape, fortran, dtype = npy_header(file)
    if fortran or dtype.hasobject:
        raise ValueError("Fortran order or Python objects")
    return shape, dtype
