"""What cannot all be is found, with where and when; what can be is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import small_config

from dyncity.conditions import LAYOUT_CLASSES, Agent, Conditions, Layout
from dyncity.contradictions import contradictions
from dyncity.layout import covered_columns, layout_of
from dyncity.scene import UNKNOWN, SceneSpec
from dyncity.taxonomy import NATIVE
from generators.procedural.city import ProceduralCity

CONFIG = small_config()
GRID = CONFIG.clip_grid  # 24 x 24 columns of 0.8 m, the ego at 0, 0 in frame 2
FRAMES = 4
STRAIGHT = np.array([[2.0 * t, 0, 0] for t in range(FRAMES)])


def layout(*agents: Agent, **boxes: tuple[float, float, float, float]) -> Layout:
    """A layout that asks for a class in boxes of x, y, length, width, in all frames, or for agents."""
    maps = np.zeros((6, FRAMES, *GRID.shape[:2]), bool)
    for name, (x, y, length, width) in boxes.items():
        maps[LAYOUT_CLASSES.index(name)] |= covered_columns(GRID, (length, width), (x, y, 0.0))
    asked = np.array([name in boxes for name in LAYOUT_CLASSES])
    for agent in agents:
        kind = LAYOUT_CLASSES.index(agent.kind)
        asked[kind] = True
        for t in range(FRAMES):
            maps[kind, t] |= covered_columns(GRID, agent.size, agent.at(t))
    return Layout(maps, asked, agents=agents)


def car(*rows: tuple[float, float, float, float]) -> Agent:
    return Agent("vehicle", (4.0, 2.0), np.array(rows, float))


def said(asked: Conditions) -> list[str]:
    return [str(one) for one in contradictions(asked, GRID, "native", FRAMES // 2)]


@pytest.mark.parametrize("name", ["building", "vegetation", "vehicle", "pedestrian"])
def test_a_path_through_what_is_asked_is_found_when_it_gets_there(name: str) -> None:
    """In frame 3 the ego is at x 2 in the frame of frame 2; its front, at 4.2 m, is in the box from 3.4 m."""
    asked = Conditions(trajectory=STRAIGHT, layout=layout(**{name: (5.0, 0.0, 3.2, 1.6)}))
    found = contradictions(asked, GRID, "native", FRAMES // 2)
    assert [(one.first, one.last) for one in found] == [(3, 3)]
    assert name in found[0].what
    assert 3.4 < found[0].x < 4.2
    assert abs(found[0].y) < 1
    assert str(found[0]).startswith("frame 3: the path leads through columns")


def test_consecutive_frames_are_one_contradiction() -> None:
    asked = Conditions(trajectory=STRAIGHT, layout=layout(building=(0.0, 0.0, 19.0, 1.6)))
    assert len(said(asked)) == 1
    assert said(asked)[0].startswith("frames 0 to 3: ")


def test_beside_the_path_under_trees_and_where_nothing_is_asked_is_no_contradiction() -> None:
    for fine in (
        layout(building=(5.0, 4.0, 3.2, 1.6)),
        layout(vegetation=(0.0, 0.0, 19.0, 1.6), road=(0.0, 0.0, 19.0, 6.0)),
        replace(layout(building=(0.0, 0.0, 19.0, 1.6)), given=np.zeros(6, bool)),
    ):
        assert said(Conditions(trajectory=STRAIGHT, layout=fine)) == []
    assert said(Conditions("left", STRAIGHT)) == []


@pytest.mark.parametrize("name", ["vehicle", "pedestrian"])
def test_somebody_asked_for_inside_a_building_is_found(name: str) -> None:
    inside = layout(**{name: (-6.0, 6.0, 1.6, 1.6), "building": (-6.0, 7.0, 6.4, 3.2)})
    (found,) = contradictions(Conditions(layout=inside), GRID, "native", None)
    assert found.what == f"columns asked to be {name} are asked to be building"
    assert (found.first, found.last) == (0, FRAMES - 1)
    assert abs(found.x + 6) < 1
    assert abs(found.y - 6) < 1
    assert said(Conditions(layout=layout(**{name: (-6.0, 6.0, 1.6, 1.6), "vegetation": (-6.0, 7.0, 6.4, 3.2)}))) == []


def test_a_frame_that_moves_with_the_ego_has_it_in_the_middle() -> None:
    asked = Conditions(trajectory=STRAIGHT, layout=layout(building=(5.0, 0.0, 3.2, 1.6)))
    assert contradictions(asked, GRID, "native", None) == []


def test_an_agent_in_the_way_at_that_time_is_found_and_later_is_not() -> None:
    """It crosses the path from the right: at y 0 in frame 2, where the ego is at 0, 0."""
    crossing = car((0, 0, -8, np.pi / 2), (3, 0, 4, np.pi / 2))
    found = said(Conditions(trajectory=STRAIGHT, layout=layout(crossing)))
    assert len(found) == 1
    assert found[0].startswith("frame 2: the path leads through agents[0] (vehicle)")
    late = car((0, 0, -14, np.pi / 2), (3, 0, -5, np.pi / 2))
    assert said(Conditions(trajectory=STRAIGHT, layout=layout(late))) == []


def test_agents_in_one_another_are_found_only_while_they_are() -> None:
    standing, meeting = car((0, 6, 3, 0)), car((0, -6, 3, 0), (3, 6, 3, 0))
    found = contradictions(Conditions(layout=layout(standing, meeting)), GRID, "native", 2)
    assert [(one.what, one.first, one.last) for one in found] == [("agents[0] and agents[1] overlap", 3, 3)]
    assert said(Conditions(layout=layout(standing, car((0, 6, 5.1, 0))))) == []  # 0.1 m apart


@given(seed=st.integers(0, 2**32 - 1))
def test_overlap_is_the_same_from_both_sides_and_agrees_with_points(seed: int) -> None:
    """Boxes that share a point of a fine raster overlap."""
    rng = np.random.default_rng(seed)
    boxes = [
        Agent("vehicle", tuple(rng.uniform(1, 5, 2)), np.array([[0, *rng.uniform(-3, 3, 2), rng.uniform(-4, 4)]]))
        for _ in range(2)
    ]
    first, second = (bool(contradictions(Conditions(layout=layout(*pair)), GRID, "native", 2)) for pair in
                     (boxes, boxes[::-1]))  # fmt: skip
    assert first == second
    points = rng.uniform(-6, 6, (4000, 2))
    inside = np.ones(len(points), bool)
    for box in boxes:
        x, y, yaw = box.at(0)
        dx, dy = (points - (x, y)).T
        inside &= np.abs(np.cos(yaw) * dx + np.sin(yaw) * dy) < box.size[0] / 2
        inside &= np.abs(np.cos(yaw) * dy - np.sin(yaw) * dx) < box.size[1] / 2
    assert first or not inside.any()


def given_city() -> np.ndarray:
    """A clip of flat road."""
    voxels = np.zeros((FRAMES, *GRID.shape), np.uint8)
    voxels[..., :2] = NATIVE.id("road")
    return voxels


def test_a_path_through_given_voxels_is_found_at_the_height_of_a_car() -> None:
    voxels = given_city()
    index, inside = GRID.index(np.array([[3.6, 0.0, 0.6], [3.6, 0.0, 3.4]]))
    assert inside.all()
    voxels[3, *index[0]] = NATIVE.id("building")
    found = said(Conditions(trajectory=STRAIGHT, given=voxels))
    assert [line.partition(",")[0] for line in found] == ["frame 3: the path leads through given voxels of building"]
    voxels = given_city()
    voxels[:, *index[1]] = NATIVE.id("vegetation")  # a crown
    assert said(Conditions(trajectory=STRAIGHT, given=voxels)) == []
    voxels[:] = UNKNOWN
    assert said(Conditions(trajectory=STRAIGHT, given=voxels)) == []


def test_a_layout_that_given_voxels_deny_is_found() -> None:
    voxels = given_city()
    everywhere = layout(road=(0.0, 0.0, 99.0, 99.0))
    assert said(Conditions(given=voxels, layout=everywhere)) == []
    voxels[1, 5, 6] = UNKNOWN  # nothing is known: nothing is denied
    assert said(Conditions(given=voxels, layout=everywhere)) == []
    voxels[1, 7, 8] = 0
    found = contradictions(Conditions(given=voxels, layout=everywhere), GRID, "native", 2)
    assert [(one.what, one.first) for one in found] == [("road is asked for where the given voxels have none", 1)]
    np.testing.assert_allclose((found[0].x, found[0].y), (GRID.axis(0)[7], GRID.axis(1)[8]))
    found = contradictions(Conditions(given=voxels, layout=layout(road=(0.0, 0.0, 8.0, 8.0))), GRID, "native", 2)
    assert "given voxels of road lie where none is asked for" in {one.what for one in found}


@pytest.mark.parametrize("command", ["static", "forward", "left", "right"])
def test_what_the_simulator_drives_through_does_not_contradict_itself(command: str) -> None:
    world = ProceduralCity(CONFIG, frame="world").generate([SceneSpec(1, 4, Conditions(command))])[0]  # type: ignore[arg-type]
    asked = replace(world.conditions, layout=layout_of(world.semantics, "native"), given=world.semantics)
    assert said(asked) == []
