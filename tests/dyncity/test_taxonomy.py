from __future__ import annotations

import numpy as np
import pytest

from dyncity.errors import InputError
from dyncity.taxonomy import NATIVE, TAXONOMIES, label_map, taxonomy

TARGETS = [name for name in TAXONOMIES if name != "native"]


@pytest.mark.parametrize("target", TARGETS)
def test_free_maps_to_free_and_unknown_stays_unknown(target: str) -> None:
    table = label_map("native", target)
    assert table[NATIVE.free] == taxonomy(target).free
    assert table[255] == 255


@pytest.mark.parametrize("target", TARGETS)
def test_native_classes_land_on_ids_of_the_target_or_unknown(target: str) -> None:
    table = label_map("native", target)[: len(NATIVE)]
    assert ((table < len(taxonomy(target))) | (table == 255)).all()
    if target != "semantickitti":
        assert (table != 255).all()


def test_only_semantickitti_lacks_a_class_for_some_objects() -> None:
    table = label_map("native", "semantickitti")
    lost = [name for i, name in enumerate(NATIVE.classes) if table[i] == 255]
    assert lost == ["traffic_cone", "other_object", "unclassified"]


def test_published_ids() -> None:
    """Ids that other people's code relies on."""
    assert taxonomy("occ3d-nuscenes").free == 17
    assert taxonomy("occ3d-nuscenes").id("driveable_surface") == 11
    assert taxonomy("semantickitti").id("traffic-sign") == 19
    assert taxonomy("occ3d-waymo").id("walkable") == 14
    assert taxonomy("carlasc").classes[10] == "vehicle"
    assert [len(taxonomy(n)) for n in TARGETS] == [11, 20, 18, 16]


def test_movers_stay_movers() -> None:
    for target in TARGETS:
        table = label_map("native", target)
        for mover in ("car", "bus", "pedestrian"):
            assert table[NATIVE.id(mover)] in taxonomy(target).movers


def test_no_map_leads_back_from_a_coarser_space() -> None:
    with pytest.raises(InputError, match="no map leads"):
        label_map("carlasc", "semantickitti")
    assert label_map("carlasc", "carlasc")[10] == 10


def test_every_class_has_its_own_name_and_a_colour() -> None:
    for space in TAXONOMIES.values():
        assert len(set(space.classes)) == len(space.classes) == len(space.colors)
        assert space.palette().shape == (256, 3)
    np.testing.assert_array_equal(NATIVE.palette()[NATIVE.id("road")], (0x5A, 0x55, 0x60))
