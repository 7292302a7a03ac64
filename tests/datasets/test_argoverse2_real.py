"""The import against real Argoverse 2 logs, where they lie beside the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from argoverse2_log import REAL_LOGS, real_logs_reason

from dyncity.datasets.argoverse2.log import Log, find_logs
from dyncity.datasets.argoverse2.voxelise import read_world, scene
from dyncity.presets import preset
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import NATIVE

pytestmark = pytest.mark.skipif(bool(real_logs_reason()), reason=str(real_logs_reason()))

GRID = preset("tiny").grid
GROUND = [NATIVE.id(n) for n in ("road", "crosswalk", "sidewalk", "terrain", "lane_marking")]
ON_ROAD = [NATIVE.id(n) for n in ("road", "crosswalk")]


@pytest.fixture(scope="module", params=[log.folder for log in find_logs(REAL_LOGS)] if REAL_LOGS.is_dir() else [])
def imported(request: pytest.FixtureRequest) -> tuple[Path, OccupancyScene]:
    return request.param, scene(read_world(Log(request.param), GRID), request.param.name)


def test_a_log_is_fifteen_seconds_of_street(imported: tuple[Path, OccupancyScene]) -> None:
    _, shown = imported
    assert 75 <= shown.frames <= 80
    share = np.bincount(shown.semantics.reshape(-1), minlength=256) / shown.semantics.size
    assert 0.2 < share[0] < 0.6
    assert 0.3 < share[255] < 0.7
    assert share[ON_ROAD].sum() > 0.03
    assert share[NATIVE.id("car")] > 0.002


def test_the_ego_drives_on_the_road_through_free_space(imported: tuple[Path, OccupancyScene]) -> None:
    """Under the ego's origin, in every frame: road at height 0, nothing above it."""
    _, shown = imported
    index, _ = shown.grid.index(np.array([1.5, 0.0, 0.0]))
    x, y, z = index
    assert np.isin(shown.semantics[:, x, y, z], ON_ROAD).mean() > 0.98
    assert (shown.semantics[:, x, y, z + 1] == 0).all()


def test_moving_cars_drive_on_road(imported: tuple[Path, OccupancyScene]) -> None:
    """Under the centre of a car that drives there is road, up to a curb."""
    _, shown = imported
    on_road = []
    cars = shown.boxes.label == NATIVE.id("car")
    for track in np.unique(shown.boxes.track[cars]):
        own = np.flatnonzero(shown.boxes.track == track)
        if np.ptp(shown.boxes.center[own, :2], axis=0).max() < 10:
            continue
        for row in own:
            frame = shown.boxes.frame[row]
            foot = shown.boxes.center[row] - (0, 0, shown.boxes.size[row, 2] / 2)
            local = np.linalg.inv(shown.poses[frame]) @ [*foot, 1]
            index, inside = shown.grid.index(local[:3])
            if inside:
                on_road.append(shown.semantics[frame][tuple(index)] in ON_ROAD)
    assert len(on_road) > 20
    assert np.mean(on_road) > 0.8


def test_static_voxels_agree_between_posed_frames(imported: tuple[Path, OccupancyScene]) -> None:
    _, shown = imported
    centers = shown.grid.centers().reshape(-1, 3)
    same, both_same = [], []
    for i in range(0, shown.frames - 5, 6):
        pose = np.linalg.inv(shown.poses[i + 5]) @ shown.poses[i]
        index, inside = shown.grid.index(centers @ pose[:3, :3].T + pose[:3, 3])
        a = shown.semantics[i].reshape(-1)[inside]
        b = shown.semantics[i + 5][tuple(index[inside].T)]
        known = (a != 255) & (b != 255) & ~np.isin(a, NATIVE.movers) & ~np.isin(b, NATIVE.movers)
        same.append((a == b)[known].mean())
        both = known & (a != 0) & (b != 0)
        both_same.append((a == b)[both].mean())
    assert np.mean(same) > 0.95
    assert np.mean(both_same) > 0.95


def test_the_ego_s_own_box_is_never_drawn(imported: tuple[Path, OccupancyScene]) -> None:
    _, shown = imported
    for frame in range(shown.frames):
        own = shown.boxes.frame == frame
        local = shown.boxes.center[own] - shown.poses[frame][:3, 3]
        assert (np.linalg.norm(local[:, :2], axis=1) > 1.0).all()


def test_reading_a_log_twice_gives_the_same_bytes(imported: tuple[Path, OccupancyScene]) -> None:
    folder, shown = imported
    again = scene(read_world(Log(folder), GRID), folder.name, 0, 10)
    np.testing.assert_array_equal(again.semantics, shown.semantics[:10])
    np.testing.assert_array_equal(again.instances, shown.instances[:10])
