from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from spoiled_scenes import noisy, shuffled, spliced

from dyncity.anchoring import ego_windows
from dyncity.conditions import poses_from_trajectory
from dyncity.metrics.components import components
from dyncity.metrics.vehicles import VEHICLES, mean_speed, movers_going_on, moving_speeds, share_that_fits, vehicles_of
from dyncity.scene import OccupancyScene
from dyncity.taxonomy import NATIVE

CAR = NATIVE.id("car")


def with_blocks(scene: OccupancyScene, *blocks: tuple[int, int, int, int, int, int]) -> OccupancyScene:
    """An empty scene with blocks of car voxels, (x, y, z) to (x, y, z) each, in all frames."""
    semantics = np.zeros_like(scene.semantics)
    for a, b, c, i, j, k in blocks:
        semantics[:, a:i, b:j, c:k] = CAR
    return replace(scene, semantics=semantics)


def true_speeds(scene: OccupancyScene) -> list[float]:
    """Speeds of moving four-wheelers by their boxes, m/s."""
    assert scene.boxes is not None
    boxes, speeds = scene.boxes, []
    for track in np.unique(boxes.track):
        rows = boxes.track == track
        if NATIVE.classes[boxes.label[rows][0]] in VEHICLES and rows.sum() >= 3:
            gaps = np.linalg.norm(np.diff(boxes.center[rows, :2], axis=0), axis=1)
            speeds.append(float(gaps.mean() * scene.grid.frame_rate))
    return [v for v in speeds if v > 1.5]


def test_components_are_joined_by_faces_edges_and_corners() -> None:
    mask = np.zeros((5, 5, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 1, 1] = True
    mask[4, 4, 0] = mask[4, 2, 0] = True
    assert sorted(len(part) for part in components(mask)) == [1, 1, 3]
    assert components(np.zeros((2, 2, 2), bool)) == []
    snake = np.zeros((9, 9, 1), bool)
    snake[::2] = True
    snake[1::4, -1] = snake[3::4, 0] = True
    assert [len(part) for part in components(snake)] == [int(snake.sum())]


def test_real_vehicles_fit(real: list[OccupancyScene]) -> None:
    assert share_that_fits(real) > 0.9


def test_specks_bars_and_blobs_do_not_fit(real: list[OccupancyScene]) -> None:
    car = with_blocks(real[0], (20, 20, 2, 26, 22, 4))
    assert share_that_fits([car]) == 1.0
    speck = with_blocks(real[0], (20, 20, 2, 22, 21, 3))
    bar = with_blocks(real[0], (20, 20, 2, 40, 22, 4))
    blob = with_blocks(real[0], (20, 20, 2, 28, 28, 4))
    bent = with_blocks(real[0], (20, 20, 2, 30, 22, 4), (20, 20, 2, 22, 30, 4))
    for wrong in (speck, bar, blob, bent):
        assert share_that_fits([wrong]) == 0.0


def test_what_the_window_or_unknown_voxels_cut_off_is_left_out(real: list[OccupancyScene]) -> None:
    cut = with_blocks(real[0], (0, 20, 2, 2, 22, 4))
    assert vehicles_of(cut) == []
    hidden = with_blocks(real[0], (20, 20, 2, 26, 22, 4))
    hidden.semantics[:, 26] = 255
    assert np.isnan(share_that_fits([hidden]))


def test_speeds_are_those_of_the_boxes(real: list[OccupancyScene]) -> None:
    true = np.mean([v for scene in real for v in true_speeds(scene)])
    assert mean_speed(real) == pytest.approx(true, rel=0.15)


def test_a_city_that_stands_still_has_no_speed(real: list[OccupancyScene]) -> None:
    still = with_blocks(real[0], (20, 20, 2, 26, 22, 4), (40, 30, 2, 46, 32, 4))
    assert len(moving_speeds(still)) == 0
    assert np.isnan(mean_speed([still]))


def test_movers_go_on_until_they_stop_or_vanish(real: list[OccupancyScene]) -> None:
    """One drives through all eight frames, one stops after frame 4, one is gone after frame 5, one stands."""
    lots = [
        with_blocks(
            real[0],
            (10 + 2 * t, 10, 2, 16 + 2 * t, 12, 4),
            (10 + 2 * min(t, 4), 20, 2, 16 + 2 * min(t, 4), 22, 4),
            *([(10 + 2 * t, 30, 2, 16 + 2 * t, 32, 4)] if t <= 5 else []),
            (10, 40, 2, 16, 42, 4),
        )
        for t in range(8)
    ]
    frames = np.stack([lot.semantics[t] for t, lot in enumerate(lots)])
    scene = replace(lots[0], semantics=frames, poses=np.repeat(lots[0].poses[:1], 8, axis=0))
    expected = [[0, 0], [0, 0], [3, 3], [3, 3], [3, 1], [3, 1], [0, 0]]
    np.testing.assert_array_equal(movers_going_on(scene), expected)


@pytest.mark.parametrize("speed", [1.0, 3.0, 7.0])
def test_parked_vehicles_do_not_move_because_windows_are_cut_out_by_whole_voxels(
    real: list[OccupancyScene], speed: float
) -> None:
    """From frame to frame they seem to go up to a voxel's diagonal, there and back: faster than 1.5 m/s."""
    frames, grid = real[0].frames, real[0].grid
    lot = with_blocks(real[0], (20, 20, 2, 26, 22, 4), (40, 44, 2, 42, 50, 4))
    way = np.stack([speed / grid.frame_rate * np.arange(frames) * np.cos(0.5), *[np.zeros(frames)] * 2], axis=1)
    way[:, 1] = way[:, 0] * np.tan(0.5)
    fixed = replace(lot, poses=poses_from_trajectory(way), anchor=0)
    seen = ego_windows(fixed, grid)
    assert len(vehicles_of(seen)) >= frames
    assert not movers_going_on(seen).any()


def test_movers_go_on_less_in_noisy_shuffled_and_spliced_scenes(
    real: list[OccupancyScene], other_real: list[OccupancyScene]
) -> None:
    def share(scenes: list[OccupancyScene]) -> float:
        came, went = sum(movers_going_on(scene).sum(axis=0) for scene in scenes)
        return float(went / came)

    whole = share(real)
    assert share([noisy(scene) for scene in real]) < whole - 0.05
    assert share([shuffled(scene) for scene in real]) < whole - 0.05
    assert share([spliced(a, b) for a, b in zip(real, other_real, strict=True)]) < whole - 0.05


def test_noise_is_noticed_by_size_and_shuffled_frames_only_by_speed(real: list[OccupancyScene]) -> None:
    some = real[:8]
    share, speed = share_that_fits(some), mean_speed(some)
    assert share_that_fits([noisy(some[1])]) < 0.5 * share
    mixed = [shuffled(s) for s in some]
    assert share_that_fits(mixed) == pytest.approx(share)
    assert abs(mean_speed(mixed) / speed - 1) > 0.2
