"""The 30 categories of Argoverse 2 and their native classes."""

from __future__ import annotations

from dyncity.taxonomy import NATIVE

NATIVE_CLASS = {
    "ANIMAL": "other_object",
    "ARTICULATED_BUS": "bus",
    "BICYCLE": "bicycle",
    "BICYCLIST": "cyclist",
    "BOLLARD": "pole",
    "BOX_TRUCK": "truck",
    "BUS": "bus",
    "CONSTRUCTION_BARREL": "traffic_cone",
    "CONSTRUCTION_CONE": "traffic_cone",
    "DOG": "other_object",
    "LARGE_VEHICLE": "truck",
    "MESSAGE_BOARD_TRAILER": "trailer",
    "MOBILE_PEDESTRIAN_CROSSING_SIGN": "traffic_sign",
    "MOTORCYCLE": "motorcycle",
    "MOTORCYCLIST": "motorcyclist",
    "OFFICIAL_SIGNALER": "pedestrian",
    "PEDESTRIAN": "pedestrian",
    "RAILED_VEHICLE": "other_vehicle",
    "REGULAR_VEHICLE": "car",
    "SCHOOL_BUS": "bus",
    "SIGN": "traffic_sign",
    "STOP_SIGN": "traffic_sign",
    "STROLLER": "pedestrian",
    "TRAFFIC_LIGHT_TRAILER": "trailer",
    "TRUCK": "truck",
    "TRUCK_CAB": "truck",
    "VEHICULAR_TRAILER": "trailer",
    "WHEELCHAIR": "pedestrian",
    "WHEELED_DEVICE": "other_vehicle",
    "WHEELED_RIDER": "cyclist",
}


def native_id(category: str, moves: bool) -> int:
    """The native class id of a category; one that is not listed goes by whether its track moves."""
    unlisted = "other_vehicle" if moves else "other_object"
    return NATIVE.id(NATIVE_CLASS.get(category, unlisted))
