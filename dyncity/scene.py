"""OccupancyScene, what every source returns and every exporter takes; SceneSpec, what decides it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import Conditions, turned
from dyncity.errors import InputError
from dyncity.grid import GridSpec

UNKNOWN = 255


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """All that decides a scene: the same spec and generator give the same bytes anywhere.

    Attributes:
        index: the number of the scene in its corpus.
        seed: the root seed of the corpus; streams are derived by ``dyncity.seeding.stream``.
        conditions: what is asked of the scene.
    """

    index: int
    seed: int
    conditions: Conditions = field(default_factory=Conditions)


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Tracked boxes of a scene, one row a box and frame, in the WORLD frame of the scene.

    Attributes:
        frame: int32 ``[n]`` frame number.
        track: int32 ``[n]`` track number from 1, the same number for the same agent in all frames;
            ``OccupancyScene.instances`` holds these numbers.
        label: uint8 ``[n]`` class id in the taxonomy of the scene.
        center: float32 ``[n, 3]`` box centre, metres.
        size: float32 ``[n, 3]`` length (along the box's x), width, height, metres.
        yaw: float32 ``[n]`` heading about z, radians.
    """

    frame: NDArray[np.int32]
    track: NDArray[np.int32]
    label: NDArray[np.uint8]
    center: NDArray[np.float32]
    size: NDArray[np.float32]
    yaw: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, slots=True, eq=False)
class OccupancyScene:
    """A labelled 4D occupancy scene.

    Attributes:
        scene_id: a name for people and files: letters, digits, '-', '_'.
        semantics: uint8 ``[t, x, y, z]`` class ids of ``taxonomy``; 0 is free in the native taxonomy
            (``taxonomy.free`` says it for the others), 255 unknown (not observed).
        poses: float64 ``[t, 4, 4]`` ego-to-world; the first one is the identity.
        grid: the grid of every frame, placed by the ego pose of that frame or, where ``anchor`` is
            set, by the ego pose of frame ``anchor`` for all frames, turned by ``conditions.grid_yaw``.
        taxonomy: the name of the label space (``dyncity.taxonomy``).
        timestamps_us: int64 ``[t]`` microseconds.
        conditions: what the scene was asked to be, or what its poses say of it.
        anchor: None for ego-centred frames; else the number of the frame whose pose fixes the grid
            to the world.
        instances: uint16 ``[t, x, y, z]`` track numbers (0 none), or None.
        boxes: tracked boxes, or None.
        mask_lidar, mask_camera: uint8 ``[t, x, y, z]`` 1 where seen, or None.
        provenance: where it came from (generator, log id, seed, licence ...), JSON values.
    """

    scene_id: str
    semantics: NDArray[np.uint8]
    poses: NDArray[np.float64]
    grid: GridSpec
    taxonomy: str
    timestamps_us: NDArray[np.int64]
    conditions: Conditions = field(default_factory=Conditions)
    anchor: int | None = None
    instances: NDArray[np.uint16] | None = None
    boxes: Boxes | None = None
    mask_lidar: NDArray[np.uint8] | None = None
    mask_camera: NDArray[np.uint8] | None = None
    provenance: dict[str, str | int | float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"scene {self.scene_id}"
        expected = (len(self.poses), *self.grid.shape)
        for name in ("semantics", "instances", "mask_lidar", "mask_camera"):
            array = getattr(self, name)
            kind = np.uint16 if name == "instances" else np.uint8
            if array is not None and (array.shape != expected or array.dtype != kind):
                raise InputError(
                    f"{where}, {name}",
                    f"found {array.dtype} {array.shape}",
                    f"give {np.dtype(kind)} {expected}, one grid a pose",
                )
        if self.poses.shape[1:] != (4, 4) or not np.isfinite(self.poses).all():
            raise InputError(f"{where}, poses", f"found {self.poses.shape}", "give finite [t, 4, 4] matrices")
        if self.timestamps_us.shape != (len(self.poses),):
            raise InputError(f"{where}, timestamps_us", f"found {self.timestamps_us.shape}", "give one time a pose")
        if self.anchor is not None and not 0 <= self.anchor < len(self.poses):
            raise InputError(f"{where}, anchor", f"found {self.anchor}", "give the number of a frame or None")

    @property
    def frames(self) -> int:
        """Number of frames t."""
        return len(self.poses)

    def grid_poses(self) -> NDArray[np.float64]:
        """``[t, 4, 4]`` grid-to-world: the ego poses, or for all frames the anchor's pose, turned to the street."""
        if self.anchor is None:
            return self.poses
        return np.broadcast_to(turned(self.poses[self.anchor], self.conditions.grid_yaw), self.poses.shape)
