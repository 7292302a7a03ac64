"""Degenerate scenes are told from scenes, in every label space."""

from dataclasses import replace

import numpy as np
import pytest
from numbered_scenes import NumberedScenes, contents, small_plan

from dyncity.conditions import Conditions
from dyncity.config_file import override
from dyncity.presets import tiny
from dyncity.scene import UNKNOWN, SceneSpec
from dyncity.taxonomy import TAXONOMIES, label_map, taxonomy
from exporters.labels import to_labels
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
from generators.degenerate import LEAST_DRIVABLE, degenerate, drivable_ids
from generators.procedural.city import ProceduralCity


@pytest.fixture(scope="module")
def streets():
    """Simulated scenes."""
    config = override(tiny(), ["clip.frames=2"])
    return ProceduralCity(config).generate([SceneSpec(i, 3, Conditions("forward")) for i in range(2)])


@pytest.mark.parametrize("labels", TAXONOMIES)
def test_simulated_streets_are_scenes_by_a_margin_of_ten(streets, labels):
    for scene in streets:
        mapped = to_labels(scene, labels)
        assert degenerate(mapped) is None
        assert drivable_ids(labels)[mapped.semantics].any(-1).mean() > 10 * LEAST_DRIVABLE


@pytest.mark.parametrize("labels", TAXONOMIES)
def test_one_class_no_street_and_nothing_known_are_degenerate(streets, labels):
    scene, space = to_labels(streets[0], labels), taxonomy(labels)
    same = np.full_like(scene.semantics, space.free)
    assert degenerate(replace(scene, semantics=same)) == f"every known voxel is {space.classes[space.free]}"
    assert degenerate(replace(scene, semantics=np.full_like(same, UNKNOWN))) == "no voxel is known"
    building = label_map("native", labels)[7]
    walls = np.where(drivable_ids(labels)[scene.semantics], building, scene.semantics)
    assert "0.00% of its columns are drivable" in degenerate(replace(scene, semantics=walls))


def test_the_limit_lies_between_just_enough_and_just_too_little(make_scene):
    scene = make_scene(0)
    semantics = np.full((4, 8, 6, 4), 7, np.uint8)  # 192 columns: one in a hundred is two of them
    semantics[0, 0, 0, 0] = 1
    assert "0.52% of its columns are drivable" in degenerate(replace(scene, semantics=semantics))
    semantics[3, 7, 5, 3] = 1
    assert degenerate(replace(scene, semantics=semantics)) is None
    semantics[:, 1:] = UNKNOWN  # what is not known does not count against a scene
    assert degenerate(replace(scene, semantics=semantics)) is None


class Sampled(NumberedScenes):
    """A network that draws nothing but walls for some of its scenes, the first time or always."""

    sampled = True
    walls: tuple[int, ...] = ()
    once: tuple[int, ...] = ()

    def generate(self, specs):
        scenes = super().generate(specs)
        blank = [s.index in self.walls or (s.index in self.once and len({t.index for t in specs}) > 1) for s in specs]
        return [
            replace(scene, semantics=np.full_like(scene.semantics, 7)) if b else scene
            for scene, b in zip(scenes, blank, strict=True)
        ]


def test_a_degenerate_scene_is_tried_again_and_then_recorded(tmp_path):
    class Bad(Sampled):
        walls, once = (2, 9), (5,)

    make_corpus(small_plan(), NumberedScenes, ParquetExporter(), tmp_path / "all")
    result = make_corpus(small_plan(), Bad, ParquetExporter(), tmp_path / "some")
    assert (result.requested, result.written, result.failed) == (19, 17, 2)
    assert [(f.index, f.seed) for f in result.failures] == [(2, 5), (9, 5)]
    assert result.failures[0].reason == "degenerate: every known voxel is building"
    assert "degenerate: every known voxel is building" in (tmp_path / "some" / "README.md").read_text()
    whole, some = contents(tmp_path / "all"), contents(tmp_path / "some")
    assert whole["shards/00002.parquet"] == some["shards/00002.parquet"]


def test_what_a_network_did_not_draw_is_never_called_degenerate(tmp_path):
    class Recorded(Sampled):
        sampled = False
        walls = (2, 9)

    assert make_corpus(small_plan(), Recorded, ParquetExporter(), tmp_path / "out").failed == 0
