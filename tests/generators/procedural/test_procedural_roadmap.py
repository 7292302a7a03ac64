"""The street layout and its warp."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity.seeding import Purpose, stream
from generators.procedural.roadmap import Warp, draw_roadmap
from generators.procedural.routes import STEP, Lane, Routes


@settings(max_examples=50)
@given(
    st.floats(-0.2, 0.2), st.floats(-0.26, 0.26), st.floats(18, 45), st.floats(-40, 40),
    st.lists(st.tuples(st.floats(-200, 200), st.floats(-200, 200)), min_size=1, max_size=20),
)  # fmt: skip
def test_the_warp_can_be_undone(shear, amount, length, center, points):
    warp, uv = Warp(shear, amount, length, center), np.array(points)
    np.testing.assert_allclose(warp.to_canonical(warp.to_real(uv)), uv, atol=1e-8)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_blocks_lie_between_streets_and_do_not_overlap(seed):
    city = draw_roadmap(stream(seed, 0, Purpose.CITY), 150.0, curved=True)
    for k, block in enumerate(city.blocks):
        assert block.lo[0] < block.hi[0]
        assert block.lo[1] < block.hi[1]
        for s in city.streets:
            lo, hi = block.lo[1 - s.axis], block.hi[1 - s.axis]
            inside = min(block.hi[s.axis], s.hi) - max(block.lo[s.axis], s.lo) > 1.0
            assert not inside or s.outer(1) <= lo + 1e-9 or s.outer(-1) >= hi - 1e-9
        for other in city.blocks[:k]:
            u = min(block.hi[0], other.hi[0]) - max(block.lo[0], other.lo[0])
            v = min(block.hi[1], other.hi[1]) - max(block.lo[1], other.lo[1])
            assert u <= 0 or v <= 0


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_lanes_run_on_the_right_and_turns_turn_the_way_they_say(seed):
    city = draw_roadmap(stream(seed, 0, Purpose.CITY), 150.0, curved=False)
    routes = Routes(city)
    junction = next(j for j in city.junctions if city.at(j) == (0.0, 0.0))
    for number in (junction.a, junction.b):
        street = city.streets[number]
        for side in (-1, 1):
            lane = Lane(number, side, 0)
            straight = routes.straight(lane)
            forward = np.diff(straight.xy[:2], axis=0)[0]
            across = np.zeros(2)
            across[1 - street.axis] = -side
            assert forward[0] * across[1] - forward[1] * across[0] > 0
            for sign in (-1, 1):
                path = routes.turning(lane, junction, sign)
                if path is None:
                    continue
                begin, end = (int(s / STEP) for s in path.turn)
                turned = np.rad2deg(path.yaw[end] - path.yaw[begin])
                assert 60 < sign * turned < 120
                steps = np.hypot(*np.diff(path.xy, axis=0).T)
                assert np.abs(steps - STEP).max() < 0.05


def test_cities_differ_in_style_and_have_both_kinds_of_junction():
    cities = [draw_roadmap(stream(0, k, Purpose.CITY), 150.0, curved=True) for k in range(60)]
    assert {c.style for c in cities} == {"downtown", "suburb", "industrial", "mixed"}
    assert {len(j.arms) for c in cities for j in c.junctions} == {3, 4}
    assert {s.lanes for c in cities for s in c.streets} >= {(1, 1), (2, 2), (1, 2)}
