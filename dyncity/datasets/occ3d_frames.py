"""Frames of the Occ3D data sets, read: an npz with labels and two masks each, 200 x 200 x 16 voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyncity.datasets.tree import Drive, Frame
from dyncity.datasets.tree_files import binary, check_npz, read_npz, to_classes

SHAPE = (200, 200, 16)


@dataclass(frozen=True, slots=True, eq=False)
class Occ3DFrameReader:
    """How the frames of one of the two data sets are stored.

    Attributes:
        labels, lidar, camera: the arrays of the file that hold the classes and the two masks.
        classes: int16, raw id -> class; ``NO_CLASS`` where there is none.
    """

    labels: str
    lidar: str
    camera: str
    classes: NDArray[np.int16]

    def check(self, drive: Drive) -> None:
        """Raise InputError unless all frames of a scene are there, whole and of the right shape."""
        for (path,) in drive.files:
            check_npz(path, (self.labels, self.lidar, self.camera), SHAPE)

    def read(self, drive: Drive, number: int) -> Frame:
        """One frame as it is stored: what nobody saw is free, with both masks 0.

        Raises:
            InputError: a damaged file, an id that the data set does not have, a mask of anything but 0 and 1.
        """
        (path,) = drive.files[number]
        arrays = read_npz(path, (self.labels, self.lidar, self.camera), SHAPE)
        lidar, camera = (binary(arrays[name], name, path) for name in (self.lidar, self.camera))
        return Frame(to_classes(arrays[self.labels], self.classes, path), lidar, camera)
