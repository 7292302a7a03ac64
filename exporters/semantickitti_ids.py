"""SemanticKITTI's raw ids: which class becomes which, what moves, and the label configuration of a root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import yaml
from numpy.typing import NDArray

from dyncity.datasets.semantickitti import LEARNING_MAP
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import NATIVE, label_map, taxonomy

# Learning id -> raw id (learning_map_inv of the data set), and the raw id of objects outside its classes.
RAW_IDS = np.array([0, 10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81], dtype=np.uint16)
OTHER_OBJECT = 99
# Native classes that have a raw id of their own where the learning ids have none.
_FINER = {"bus": 13, "lane_marking": 60}
# Raw id of what stands -> raw id of what moves. Bicycles and motorcycles without a rider have none.
MOVING = {10: 252, 31: 253, 30: 254, 32: 255, 13: 257, 18: 258, 20: 259}

# Raw id -> name, as in the data set's own configuration.
_NAMES = {
    0: "unlabeled", 1: "outlier", 10: "car", 11: "bicycle", 13: "bus", 15: "motorcycle", 16: "on-rails",
    18: "truck", 20: "other-vehicle", 30: "person", 31: "bicyclist", 32: "motorcyclist", 40: "road",
    44: "parking", 48: "sidewalk", 49: "other-ground", 50: "building", 51: "fence", 52: "other-structure",
    60: "lane-marking", 70: "vegetation", 71: "trunk", 72: "terrain", 80: "pole", 81: "traffic-sign",
    99: "other-object", 252: "moving-car", 253: "moving-bicyclist", 254: "moving-person",
    255: "moving-motorcyclist", 256: "moving-on-rails", 257: "moving-bus", 258: "moving-truck",
    259: "moving-other-vehicle",
}  # fmt: skip

# Reflectivity by raw id, 0 to 1: plausible for 905 nm, not measured; what is not listed returns 0.3.
_BRIGHT = {10: 0.35, 13: 0.35, 18: 0.35, 20: 0.35, 40: 0.25, 44: 0.25, 48: 0.3, 50: 0.4, 51: 0.35, 60: 0.45}
_BRIGHT |= {70: 0.45, 71: 0.3, 72: 0.35, 80: 0.5, 81: 0.9}
REMISSION = np.full(max(_NAMES) + 1, 0.3, np.float32)
for _raw, _value in _BRIGHT.items():
    REMISSION[[_raw, MOVING.get(_raw, _raw)]] = _value


def raw_table(labels: str) -> NDArray[np.uint16]:
    """uint16 ``[2, 256]``: class ids of a taxonomy to raw ids, first of what stands, then of what moves.

    Unknown and free become 0. Known objects that have no class in the data set become raw 99, which its
    benchmark ignores.
    """
    learning = label_map(labels, "semantickitti")
    standing = np.zeros(256, np.uint16)
    standing[: len(taxonomy(labels))] = OTHER_OBJECT
    known = learning != UNKNOWN
    standing[known] = RAW_IDS[learning[known]]
    if labels == "native":
        for name, raw in _FINER.items():
            standing[NATIVE.id(name)] = raw
    moving = np.array([MOVING.get(int(raw), int(raw)) for raw in standing], np.uint16)
    return np.stack([standing, moving])


def configuration(numbers: Sequence[int], content: Mapping[int, int]) -> str:
    """The label configuration of a root, in the layout of the data set's ``semantic-kitti.yaml``.

    Sequence 08 is for validation, or the last one where there is no 08; no sequence is without labels,
    so none is for testing.

    Args:
        numbers: of the sequences.
        content: how often each raw id occurs.
    """
    ordered = sorted(numbers)
    valid = [8] if 8 in ordered else ordered[-1:] if len(ordered) > 1 else []
    total = max(sum(content.values()), 1)
    palette = taxonomy("semantickitti").palette().tolist()
    learning = dict(enumerate(RAW_IDS.tolist()))
    return yaml.safe_dump(
        {
            "name": "kitti",
            "labels": _NAMES,
            "color_map": {raw: palette[i][::-1] if i else [0, 0, 0] for raw, i in LEARNING_MAP.items()},
            "content": {raw: content.get(raw, 0) / total for raw in _NAMES},
            "learning_map": LEARNING_MAP,
            "learning_map_inv": learning,
            "learning_ignore": {i: i == 0 for i in learning},
            "split": {"train": [n for n in ordered if n not in valid], "valid": valid, "test": []},
        },
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=False,
    )
