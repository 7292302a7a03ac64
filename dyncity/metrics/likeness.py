"""What a set of scenes is like, and how like real ones: samples beside real scenes, those beside other real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dyncity.conditions import COMMANDS
from dyncity.metrics.adherence import Drive, Rows, drive, drive_rows
from dyncity.metrics.corners import corners
from dyncity.metrics.distribution import jensen_shannon
from dyncity.metrics.ego_path import ego_path
from dyncity.metrics.fid_bev import features_of, frechet_distance, known_patches
from dyncity.metrics.pieces import pieces
from dyncity.metrics.vehicles import movers_going_on, moving_speeds, vehicle_ids, vehicles_of
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import taxonomy

_WALKERS = ("pedestrian", "person")
_LEAST_SHARE = 1e-4  # of the columns of real scenes: of rarer classes chance says everything
_APART = "standard errors apart"
_LEAST_SCENES = 4  # of a command, of each set: of fewer nobody can tell chance


@dataclass
class Portrait:
    """What a set of ego-centred scenes is like: scenes are added one by one, none is kept. Ask when all are there.

    Attributes:
        labels: their label space.
        counts: ``[256]`` voxels by class id.
    """

    labels: str
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    _drives: list[Drive] = field(default_factory=list)
    _paths: list[tuple[float, float]] = field(default_factory=list)
    _fits: list[bool] = field(default_factory=list)
    _speeds: list[float] = field(default_factory=list)
    _going: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    _patches: list[NDArray[np.uint8]] = field(default_factory=list)
    _pieces: list[NDArray[np.int64]] = field(default_factory=list)
    _corners: list[NDArray[np.int64]] = field(default_factory=list)
    _seen: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)

    def add(self, scene: OccupancyScene) -> None:
        """Measure a scene."""
        self.counts += np.bincount(scene.semantics.reshape(-1), minlength=256)
        patches, command = known_patches(scene), scene.conditions.command
        self._patches.append(patches)
        if command is not None and patches.size:
            seen = np.bincount(patches.reshape(-1), minlength=len(taxonomy(self.labels))) / patches.size
            self._seen.setdefault(command, []).append(seen)
        middle = scene.semantics[scene.frames // 2]
        self._pieces.append(pieces(middle, len(taxonomy(self.labels))))
        self._corners.append(corners(middle, len(taxonomy(self.labels))))
        self._paths.append(ego_path(scene))
        self._fits += [vehicle.fits for vehicle in vehicles_of(scene)]
        if scene.frames > 1:
            self._drives.append(drive(scene))
            self._speeds += moving_speeds(scene).tolist()
            self._going += movers_going_on(scene).sum(axis=0)

    @cached_property
    def patches(self) -> NDArray[np.uint8]:
        """``[n, 256]`` the patches of FID_bev."""
        return np.concatenate(self._patches)

    @cached_property
    def features(self) -> NDArray[np.float64]:
        """``[n, 128]`` the features of FID_bev."""
        return features_of(self.patches, len(taxonomy(self.labels)))

    def seen_under(self, command: str) -> NDArray[np.float64]:
        """``[n, k]`` shares of each class among the columns seen from above, a row for each scene of a command."""
        return np.array(self._seen.get(command, [])).reshape(-1, len(taxonomy(self.labels)))

    @property
    def pieces(self) -> NDArray[np.float64]:
        """``[k]`` connected pieces of each class, of the middle frame of a scene (``dyncity.metrics.pieces``)."""
        return np.mean(self._pieces, axis=0)

    @property
    def corners(self) -> NDArray[np.float64]:
        """``[k]`` corners of the outlines of each class, of the middle frame (``dyncity.metrics.corners``)."""
        return np.mean(self._corners, axis=0)

    @property
    def shares(self) -> NDArray[np.float64]:
        """``[k]`` share of each class among the known voxels."""
        known = self.counts[: len(taxonomy(self.labels))]
        return known / max(1, known.sum())

    def rows(self) -> Rows:
        """How the scenes stand still, how they drive, who is in them; what cannot be said has no row."""
        space, shares = taxonomy(self.labels), self.shares
        occupied = max(1 - shares[space.free], np.finfo(float).tiny)
        walkers = [i for i, name in enumerate(space.classes) if name in _WALKERS]
        rows = drive_rows(self._drives, self._paths)
        if self._fits:
            rows["vehicles that fit, %"] = 100 * float(np.mean(self._fits))
        if self._speeds:
            rows["mean speed of moving vehicles, m/s"] = float(np.mean(self._speeds))
        if self._going[0]:
            rows["movers that go on, %"] = 100 * float(self._going[1] / self._going[0])
        return rows | {
            "free, %": 100 * float(shares[space.free]),
            "vehicles / occupied, %": 100 * float(shares[vehicle_ids(self.labels)].sum() / occupied),
            "pedestrians / occupied, %": 100 * float(shares[walkers].sum() / occupied),
        }


def portrait_of(scenes: Sequence[OccupancyScene]) -> Portrait:
    """The portrait of ego-centred scenes of one label space, at least one."""
    portrait = Portrait(scenes[0].taxonomy)
    for scene in scenes:
        portrait.add(scene)
    return portrait


def likeness(some: Portrait, real: Portrait, other: Portrait) -> Rows:
    """How like ``real`` a set is, in shares of what ``other`` is, another set of as many real scenes.

    What cannot be said has no row: FID_bev where a set has no patch of known columns, as logs often have not.
    """
    own, truth = some.rows(), real.rows()
    rows: Rows = {}
    if _all_seen(some, real, other):
        rows["FID_bev"] = frechet_distance(some.features, real.features)
        chance = frechet_distance(other.features, real.features)
        rows |= _ratio("FID_bev / real to real", rows["FID_bev"], chance)
    if "registration agreement" in own.keys() & truth.keys():
        rows["agreement - real"] = own["registration agreement"] - truth["registration agreement"]
    for name, of in (
        ("vehicles that fit / real", "vehicles that fit, %"),
        ("mean speed / real", "mean speed of moving vehicles, m/s"),
    ):
        if of in own.keys() & truth.keys():
            rows |= _ratio(name, own[of], truth[of])
    return rows | {"class histogram, JS in bits": jensen_shannon(some.shares, real.shares)}


def _all_seen(*portraits: Portrait) -> bool:
    return all(len(portrait.patches) for portrait in portraits)


def _ratio(name: str, value: float, reference: float) -> Rows:
    """A row, or none where there is nothing to divide by."""
    return {name: value / reference} if reference > 0 else {}


def likeness_by_class(some: Portrait, real: Portrait, other: Portrait) -> dict[str, Rows]:
    """Columns of values by class: shares of the columns seen from above, FID_bev of the patches that only tell the
    class from the rest, pieces that it lies in and corners of its outlines, over those of ``real``.

    A class that is missing, in the wrong places, of the wrong shape, torn or jagged stands out, where FID_bev of all
    has one value. No columns where a set has no patch of known columns.
    """
    if not _all_seen(some, real, other):
        return {}
    sets = {"samples, %": some.patches, "real, %": real.patches, "other real, %": other.patches}
    outlines = {"pieces / real": (some.pieces, real.pieces), "corners / real": (some.corners, real.corners)}
    columns: dict[str, Rows] = {name: {} for name in (*sets, "FID_bev / real to real", *outlines)}
    for index, label in enumerate(taxonomy(real.labels).classes):
        masks = [patches == index for patches in sets.values()]
        if masks[1].mean() < _LEAST_SHARE:
            continue
        for name, mask in zip(sets, masks, strict=True):
            columns[name][label] = 100 * float(mask.mean())
        for name, (ours, theirs) in outlines.items():
            columns[name] |= _ratio(label, float(ours[index]), float(theirs[index]))
        own, reference, others = (features_of(mask, 2) for mask in masks)
        chance = frechet_distance(others, reference)
        columns["FID_bev / real to real"] |= _ratio(label, frechet_distance(own, reference), chance)
    return columns


def likeness_by_command(some: Portrait, real: Portrait) -> dict[str, Rows]:
    """Columns of values by command and class, "forward: crosswalk": shares of the columns seen from above of the scenes
    of a command, and how many standard errors over scenes they are apart, the farthest first.

    Too little of a class under one command and too much under another cancel in all other rows. No columns where no
    command has four scenes with known columns in both sets.
    """
    values: dict[str, tuple[float, float, float]] = {}
    for command in COMMANDS:
        ours, theirs = some.seen_under(command), real.seen_under(command)
        if min(len(ours), len(theirs)) < _LEAST_SCENES:
            continue
        error = np.sqrt(ours.var(axis=0, ddof=1) / len(ours) + theirs.var(axis=0, ddof=1) / len(theirs))
        for index, label in enumerate(taxonomy(real.labels).classes):
            mine, wanted = float(ours[:, index].mean()), float(theirs[:, index].mean())
            if wanted >= _LEAST_SHARE and error[index] > 0:
                values[f"{command}: {label}"] = 100 * mine, 100 * wanted, (mine - wanted) / float(error[index])
    order = sorted(values, key=lambda name: -abs(values[name][2]))
    columns = ("samples, %", "real, %", _APART)
    return {column: {name: values[name][k] for name in order} for k, column in enumerate(columns)} if values else {}


def farthest_apart(commands: dict[str, Rows], errors: float = 3.0, most: int = 12) -> dict[str, Rows]:
    """The rows of ``likeness_by_command`` that are at least so many standard errors apart, so many of them at most."""
    apart = commands.get(_APART, {})
    names = [name for name, value in apart.items() if abs(value) >= errors][:most]
    return {column: {name: rows[name] for name in names} for column, rows in commands.items()} if names else {}
