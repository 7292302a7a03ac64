from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import small_config

from dyncity.anchoring import ego_windows
from dyncity.conditions import LAYOUT_CLASSES, Conditions, Layout, command_from_trajectory, poses_from_trajectory
from dyncity.config import SamplingConfig
from dyncity.errors import InputError
from dyncity.hexplane import planes_of, rollout_shape
from dyncity.metrics.ego_path import ego_path
from dyncity.scene import UNKNOWN, SceneSpec
from dyncity.taxonomy import NATIVE
from generators.diffusion import LatentDiffusion


@pytest.fixture(scope="module")
def checkpoint(small_models: Path) -> Path:
    return small_models / "dit"


def sampled(**changed: Any) -> SamplingConfig:
    return replace(small_config().sampling, **changed)


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> LatentDiffusion:
    return LatentDiffusion(checkpoint)


def test_a_scene_depends_on_its_own_spec_alone(source: LatentDiffusion) -> None:
    a, b, c = (SceneSpec(i, 7) for i in range(3))
    first, second = source.generate([a, b]), source.generate([c, a])
    np.testing.assert_array_equal(first[0].semantics, second[1].semantics)
    np.testing.assert_array_equal(first[0].poses, second[1].poses)
    assert (first[0].semantics != first[1].semantics).any()
    assert (source.generate([SceneSpec(0, 8), b])[0].semantics != first[0].semantics).any()


@pytest.mark.parametrize("command", ["static", "forward", "left", "right"])
def test_poses_carry_out_the_command(source: LatentDiffusion, command: str) -> None:
    for scene in source.generate([SceneSpec(i, 0, Conditions(command)) for i in range(2)]):
        assert command_from_trajectory(scene.conditions.trajectory) == command
        np.testing.assert_allclose(scene.poses, poses_from_trajectory(scene.conditions.trajectory))
        assert ego_path(scene)[1] == 1.0  # free of movers
        assert np.isin(scene.semantics, NATIVE.movers).any()


def test_a_given_trajectory_is_followed_exactly(source: LatentDiffusion) -> None:
    trajectory = np.array([[0, 0, 0], [1, 0, 0], [2, 0.1, 0.1], [3, 0.3, 0.2]], float)
    scene = source.generate([SceneSpec(0, 0, Conditions(trajectory=trajectory)), SceneSpec(1, 0)])[0]
    np.testing.assert_allclose(scene.poses, poses_from_trajectory(trajectory))
    with pytest.raises(InputError, match="--trajectory"):
        source.generate([SceneSpec(0, 0, Conditions(trajectory=np.zeros((9, 3)))), SceneSpec(1, 0)])


@pytest.mark.parametrize(("dtype", "value"), [(np.float32, 3), (np.uint8, 200), (np.int64, 3)])
def test_given_voxels_are_ids_of_classes(source: LatentDiffusion, dtype: type, value: int) -> None:
    given = np.full(source.config.clip_shape, value, dtype)
    with pytest.raises(InputError, match=r"given: found .* up to \d+.*give uint8 ids below 29, or 255"):
        source.conditions(SceneSpec(0, 0, Conditions(given=given)))


@pytest.mark.parametrize("rounds", [0, 2])
def test_given_voxels_stay_as_they_are_and_the_rest_is_generated(checkpoint: Path, rounds: int) -> None:
    source = LatentDiffusion(checkpoint, sampled(join_rounds=rounds, join_interval=(0.2, 0.9)))
    config = source.config
    given = np.full(config.clip_shape, UNKNOWN, np.uint8)
    given[:, :12] = np.random.default_rng(0).integers(0, 20, given[:, :12].shape)
    standing = np.zeros((config.clip.frames, 3))
    asked = [Conditions(trajectory=standing, given=given), Conditions(trajectory=standing)]
    with_given, without = source.generate([SceneSpec(0, 0, asked[0]), SceneSpec(1, 0, asked[1])])
    window = ego_windows(replace(with_given, semantics=given, grid=config.clip_grid, anchor=2), config.grid).semantics
    kept = window != UNKNOWN
    assert 0.3 < kept.mean() < 0.9
    np.testing.assert_array_equal(with_given.semantics[kept], window[kept])
    assert (with_given.semantics != UNKNOWN).all()
    # A neighbour in the batch changes nothing, and what is given reaches beyond its own voxels.
    alone = source.generate([SceneSpec(1, 0, asked[1]), SceneSpec(0, 0, Conditions(trajectory=standing))])
    np.testing.assert_array_equal(alone[0].semantics, without.semantics)
    assert (alone[1].semantics[~kept] != with_given.semantics[~kept]).any()


def test_logits_that_are_not_finite_are_an_error(source: LatentDiffusion) -> None:
    latent = source.config.latent_shape
    for value in (float("nan"), float("inf")):
        square = torch.full((1, source.vae.latent_channels, *rollout_shape(latent)), value)
        with pytest.raises(FloatingPointError, match="logits are not finite"):
            source.vae.decode(planes_of(square, latent))


def test_a_layout_reaches_the_model(source: LatentDiffusion) -> None:
    config = source.config
    maps = np.zeros((6, *config.clip_shape[:3]), bool)
    maps[2, :, :10] = True
    specs = [SceneSpec(0, 0, Conditions("forward", layout=Layout(maps, np.arange(6) == asked))) for asked in (2, 9)]
    building, nothing = source.generate(specs)
    plain = source.generate([specs[0], SceneSpec(0, 0, Conditions("forward"))])[1]
    assert (building.semantics != plain.semantics).any()
    np.testing.assert_array_equal(nothing.semantics, plain.semantics)


def test_agents_are_drawn_where_they_are_missing_but_where_the_ego_is(
    checkpoint: Path, source: LatentDiffusion
) -> None:
    config, pedestrian = source.config, LAYOUT_CLASSES.index("pedestrian")
    x, y = config.clip_shape[1:3]
    street = np.full(config.clip_shape, NATIVE.free, np.uint8)
    street[..., :2] = NATIVE.id("road")
    maps = np.zeros((6, *config.clip_shape[:3]), bool)
    maps[pedestrian, :, x // 2, [y // 2, y // 2 + 6]] = True  # the first is run over in the middle frame
    asked = Conditions("static", layout=Layout(maps, np.arange(6) == pedestrian))
    drawn = source.with_asked(street, source.conditions(SceneSpec(0, 0, asked)))
    columns = (drawn == NATIVE.id("pedestrian")).any(axis=-1)
    assert columns[:, x // 2, y // 2 + 6].all()
    assert columns.sum() == len(columns)
    decoded = LatentDiffusion(checkpoint, sampled(draw_asked=False))
    assert decoded.with_asked(street, asked) is street


def test_the_provenance_says_how_many_columns_were_decoded(checkpoint: Path, source: LatentDiffusion) -> None:
    vehicle = LAYOUT_CLASSES.index("vehicle")
    maps = np.zeros((6, *source.config.clip_shape[:3]), bool)
    maps[vehicle, :, 2:8, 2:5] = True
    specs = [SceneSpec(i, 0, Conditions("static", layout=Layout(maps, np.arange(6) == vehicle))) for i in range(2)]
    said = {"asked_vehicle_columns": int(maps.sum())}
    for scene, plain in zip(
        source.generate(specs), LatentDiffusion(checkpoint, sampled(draw_asked=False)).generate(specs), strict=True
    ):
        assert scene.provenance.items() >= said.items()
        assert scene.provenance == plain.provenance  # what is drawn is not decoded
        assert 0 <= scene.provenance["decoded_vehicle_columns"] <= maps.sum()


def test_the_grid_of_a_scene_lies_along_streets_or_as_its_layout_does(source: LatentDiffusion) -> None:
    maps, asked = np.zeros((6, *source.config.clip_shape[:3]), bool), np.ones(6, bool)
    drawn = [source.conditions(SceneSpec(i, 0, Conditions("left"))).grid_yaw for i in range(8)]
    assert all(yaw is not None and abs(yaw) <= np.pi / 4 for yaw in drawn)
    assert len(set(drawn)) == 8
    assert source.conditions(SceneSpec(0, 0, Conditions("forward"))).grid_yaw == 0
    for layout, yaw in ((Layout(maps, asked), 0.0), (Layout(maps, asked, grid_yaw=0.3), 0.3)):
        assert source.conditions(SceneSpec(0, 0, Conditions("left", layout=layout))).grid_yaw == yaw
    assert source.conditions(SceneSpec(0, 0, Conditions("left", grid_yaw=-0.2))).grid_yaw == -0.2
    first, second = (Conditions("left", grid_yaw=yaw) for yaw in (0.0, 0.5))
    scenes = source.generate([SceneSpec(0, 0, first), SceneSpec(0, 0, second)])
    assert (scenes[0].semantics != scenes[1].semantics).any()  # the path lies elsewhere in the grid


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Conditions(given=np.zeros((4, 3, 3, 3), np.uint8)), "given: found shape"),
        (Conditions(layout=Layout(np.zeros((6, 4, 2, 2), bool), np.ones(6, bool))), "layout: found shape"),
    ],
)
def test_maps_on_another_grid_are_refused(source: LatentDiffusion, asked: Conditions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        source.generate([SceneSpec(0, 0, asked), SceneSpec(1, 0)])


def test_scenes_are_ego_centred_in_the_export_window(source: LatentDiffusion) -> None:
    scene = source.generate([SceneSpec(0, 0), SceneSpec(1, 0)])[0]
    assert scene.anchor is None
    assert scene.grid == source.config.grid
    assert scene.semantics.shape == (4, 16, 16, 8)
    np.testing.assert_array_equal(np.diff(scene.timestamps_us), 200_000)


def test_weaker_selves_guide_scenes_without_a_layout_alone(checkpoint: Path) -> None:
    shape = small_config().clip_shape
    layout = Layout(np.zeros((6, *shape[:3]), bool), np.ones(6, bool), grid_yaw=0.0)
    asked = SceneSpec(0, 0, Conditions("left", layout=layout))
    free = SceneSpec(1, 0, Conditions("left"))
    strong, without = (LatentDiffusion(checkpoint, sampled(coarse_scale=c, skip_scale=c)) for c in (9.0, 0.0))
    for other in (asked, free):  # beside a scene of its own kind, and of the other
        np.testing.assert_array_equal(
            strong.generate([asked, other])[0].semantics, without.generate([asked, other])[0].semantics
        )
    assert (strong.generate([free, asked])[0].semantics != without.generate([free, asked])[0].semantics).any()


def test_scenes_with_a_layout_are_guided_by_a_scale_of_their_own(checkpoint: Path) -> None:
    """Two in a batch: without a layout one is what the plain scale makes of it, with one what the other scale does."""
    shape = LatentDiffusion(checkpoint).config.clip_shape
    layout = Layout(np.zeros((6, *shape[:3]), bool), np.ones(6, bool), grid_yaw=0.0)
    asked, free = SceneSpec(0, 0, Conditions("left", layout=layout)), SceneSpec(0, 0, Conditions("left"))
    both, weak, strong = (
        [scene.semantics for scene in LatentDiffusion(checkpoint, sampled(**options)).generate([asked, free])]
        for options in ({"cfg_scale": 2.0, "cfg_scale_layout": 9.0}, {"cfg_scale": 2.0}, {"cfg_scale": 9.0})
    )
    np.testing.assert_array_equal(both[0], strong[0])
    np.testing.assert_array_equal(both[1], weak[1])
    assert (weak[0] != strong[0]).any()


def test_guidance_and_steps_change_the_scene(checkpoint: Path, source: LatentDiffusion) -> None:
    specs = [SceneSpec(0, 0, Conditions("left")), SceneSpec(1, 0, Conditions("left"))]
    base = source.generate(specs)[0].semantics
    assert (LatentDiffusion(checkpoint, sampled(steps=5)).generate(specs)[0].semantics != base).any()
    assert LatentDiffusion(checkpoint, sampled(cfg_scale=3.0)).fingerprint() != source.fingerprint()
    for options in ({"coarse_scale": 9.0}, {"skip_scale": 9.0}):
        other = LatentDiffusion(checkpoint, sampled(**options))
        assert other.fingerprint() != source.fingerprint()
        assert (other.generate(specs)[0].semantics != base).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps"),
        ({"micro_batch": 0}, "--micro-batch"),
        ({"cfg_scale": -1.0}, "--cfg-scale"),
        ({"cfg_scale_layout": -1.0}, "sampling.cfg_scale_layout"),
        ({"time_shift": 0.0}, "sampling.time_shift"),
        ({"cfg_scale": float("nan")}, "--cfg-scale"),
        ({"cfg_interval": (0.7, 0.2)}, "cfg_interval"),
        ({"join_interval": (0.7, 0.2)}, "join_interval"),
        ({"join_rounds": -1}, "join_rounds"),
        ({"coarse_scale": -1.0}, "coarse_scale"),
        ({"coarse_interval": (0.5, -0.1)}, "coarse_interval"),
        ({"skip_scale": float("inf")}, "skip_scale"),
        ({"skip_interval": (0.7, 1.2)}, "skip_interval"),
        ({"skip_block": 1}, r"skip_block: found 1 with dit.depth = 1; give 0 to 0"),
        ({"sampler": "ddim"}, "use one of euler, heun, ab2"),
    ],
)
def test_settings_out_of_range_are_refused(checkpoint: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LatentDiffusion(checkpoint, sampled(**options))


def test_a_backend_that_cannot_run_here_is_refused(checkpoint: Path) -> None:
    with pytest.raises(InputError, match="attention"):
        LatentDiffusion(checkpoint, sampled(attention="flash_attn"))


def test_a_checkpoint_without_a_dit_cannot_generate(checkpoint: Path) -> None:
    with pytest.raises(InputError, match="no DiT"):
        LatentDiffusion(checkpoint.with_name("vae"))
