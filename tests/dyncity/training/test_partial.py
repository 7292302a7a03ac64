"""What training clips give away of themselves is what edits will know of a scene."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import small_config

from dyncity.conditions import COMMANDS, Conditions
from dyncity.movers import parked
from dyncity.scene import UNKNOWN, SceneSpec
from dyncity.seeding import Purpose, stream
from dyncity.taxonomy import NATIVE
from dyncity.training.partial import KINDS, draw_given
from generators.procedural.city import ProceduralCity


@pytest.fixture(scope="module")
def parts() -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Clips and what is given of them, by kind."""
    config = small_config()
    city = ProceduralCity(config, frame="world")
    drawn: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {kind: [] for kind in KINDS}
    for index in range(40):
        scene = city.generate([SceneSpec(index % 4, 3, Conditions(COMMANDS[index % 4]))])[0]
        assert scene.conditions.trajectory is not None
        rng = stream(0, index, Purpose.TRAIN_GIVEN)
        kind = KINDS[int(stream(0, index, Purpose.TRAIN_GIVEN).integers(len(KINDS)))]
        given = draw_given(scene.semantics, scene.conditions.trajectory, config, rng)
        drawn[kind].append((scene.semantics, given))
    return drawn


def test_given_voxels_are_those_of_the_clip_and_never_all(parts: dict) -> None:
    for kind in KINDS:
        assert len(parts[kind]) >= 3
        for clip, given in parts[kind]:
            known = given != UNKNOWN
            assert 0 < known.mean() < 1, kind
            assert (given[known] == clip[known]).all()


def test_one_frame_is_one_frame(parts: dict) -> None:
    for _, given in parts["frame"]:
        assert (given != UNKNOWN).any(axis=(1, 2, 3)).sum() == 1


def test_after_the_shared_frames_the_chunk_before_gives_nothing_that_moves(parts: dict) -> None:
    for clip, given in parts["before"]:
        later = given[len(given) // 2 :]
        assert not (later == NATIVE.free).any()
        moving = np.isin(later, list(NATIVE.movers))
        assert not (moving & ~parked(clip, "native")).any()


def test_in_some_clips_what_stands_is_known_everywhere(parts: dict) -> None:
    known = []
    for clip, given in parts["before"]:
        stands = ~np.isin(clip, [NATIVE.free, UNKNOWN, *NATIVE.movers])
        known.append(float((given != UNKNOWN)[stands].mean()))
    assert 0 < sum(share == 1.0 for share in known) < len(known)


def test_the_same_stream_gives_the_same_part() -> None:
    config = small_config()
    clip = np.zeros(config.clip_shape, np.uint8)
    drawn = [draw_given(clip, np.zeros((4, 3)), config, stream(0, 9, Purpose.TRAIN_GIVEN)) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
