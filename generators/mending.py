"""What is decoded, made whole: vehicles, trees and walls of one piece, in their place, as long as they are there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyncity.anchoring import Pose, path_on_grid
from dyncity.conditions import LAYOUT_CLASSES, Conditions
from dyncity.config import Config
from dyncity.layout import MOVING
from dyncity.models.conditioning import Route
from generators.ego_space import clear_of_movers, ego_columns
from generators.fragments import without_fragments
from generators.going_on import going_on, not_lost
from generators.laid_out import without_strangers
from generators.lasting_vehicles import lasting_vehicles
from generators.one_kind import one_kind
from generators.specks import without_specks
from generators.standing_movers import standing_movers
from generators.standing_still import standing_still, with_given
from generators.straight_edges import straight_edges
from generators.two_wheels import without_flashes_on_two_wheels
from generators.upright import upright
from generators.whole_trees import whole_trees
from generators.whole_vehicles import whole_vehicles
from generators.whole_walls import whole_sidewalks, whole_walls

_ROAD, _SIDEWALK, _BUILDING = map(LAYOUT_CLASSES.index, ("road", "sidewalk", "building"))


def mended(
    volume: NDArray[np.uint8], asked: Conditions, route: Route, shared: int, config: Config
) -> NDArray[np.uint8]:
    """A decoded volume with given voxels, vehicles whole, of one class each, lasting, and going on, from the
    ``shared`` frames too, without strangers to the layout; what stands does not flicker, has no specks, no torn walls
    and no jogs in its edges, nobody is in the space of the ego, and nothing floats.

    Args:
        volume: class ids ``[t, x, y, z]`` on the grid of clips.
        asked: the conditions that it was made under, in full.
        route: where the ego comes from and goes on to.
        shared: how many of the first frames are those of a clip that this one continues.
        config: of the checkpoint, with the settings of ``sampling`` that hold.
    """
    grid, labels, sampling = config.clip_grid, config.taxonomy, config.sampling
    fixed = config.clip.planes == "world"
    whole = with_given(volume, asked.given)
    if fixed:
        whole = standing_movers(whole, grid, labels)
        if sampling.whole_vehicles:  # of crumbs too, which are no vehicles to what follows
            whole = without_flashes_on_two_wheels(whole_vehicles(whole, grid, labels, asked.given), grid, labels)
    whole = without_fragments(whole, grid, labels, sampling.smallest_vehicle)
    whole = one_kind(whole, grid, labels)
    asks_where = asked.layout is not None and asked.layout.given[MOVING]
    if fixed and not asks_where:
        path = _ego_path(asked, route, config)
        taken = None if path is None else ego_columns(path, grid)[len(route[0]) :]
        if shared:
            whole = going_on(whole, asked.given, shared, grid, labels, taken)
        whole = not_lost(whole, asked.given, grid, labels, taken)
    if fixed:
        whole = lasting_vehicles(whole, grid, labels)
    whole = without_strangers(whole, asked.layout, labels)
    if not fixed:
        return with_given(whole, asked.given)
    whole = without_specks(standing_still(whole, labels, asked.given), labels, sampling.smallest_piece)
    if asked.layout is None or not asked.layout.given[_BUILDING]:
        whole = whole_walls(whole, grid, labels, sampling.widest_gap)
    if asked.layout is None or not asked.layout.given[_SIDEWALK]:
        whole = whole_sidewalks(whole, grid, labels, sampling.widest_gap)
    if asked.layout is None or not asked.layout.given[[_ROAD, _SIDEWALK, _BUILDING]].any():
        whole = straight_edges(whole, grid, labels, sampling.longest_jog)
    if sampling.upright:
        whole = upright(whole_trees(whole, grid, labels), grid, labels)
    return with_given(leaving_the_ego(whole, asked, route, config), asked.given)


def leaving_the_ego(volume: NDArray[np.uint8], asked: Conditions, route: Route, config: Config) -> NDArray[np.uint8]:
    """A volume with nobody in the space of the ego, on a grid fixed to the world and where a path is known."""
    path = _ego_path(asked, route, config)
    if path is None:
        return volume
    return clear_of_movers(volume, path, len(route[0]), config.clip_grid, config.taxonomy)


def _ego_path(asked: Conditions, route: Route, config: Config) -> list[Pose] | None:
    """The ego on a grid fixed to the world, in the clip and, where that is known, before and behind it."""
    if config.clip.planes != "world" or asked.trajectory is None:
        return None
    before, after = route
    drive = np.concatenate([before, asked.trajectory, after])
    return path_on_grid(drive, len(before) + config.clip.frames // 2, asked.grid_yaw)
