"""The data set card: readable by hubs, true about the shards, with the terms of the sources."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from numbered_scenes import FRAMES, NumberedScenes, small_plan

from dyncity.conditions import LAYOUT_CLASSES, Conditions, Layout
from dyncity.datasets.manifest import FailedScene, Manifest, ShardRecord
from dyncity.presets import preset
from dyncity.taxonomy import NATIVE
from generators.card import card, class_shares, licence
from generators.card_command import command_line


def a_manifest(failures=()):
    record = ShardRecord("00000.parquet", 1000, "0" * 64, 0, 4, 4 * FRAMES, tuple(failures))
    return Manifest({"num_scenes": 4 + len(failures)}, "0" * 64, (record,))


def scenes(**provenance):
    plan = small_plan(4)
    made = NumberedScenes().generate([plan.spec(i) for i in range(4)])
    return [replace(scene, provenance=scene.provenance | provenance) for scene in made]


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_front_matter_is_what_hubs_read():
    matter = front_matter(card(small_plan(4), a_manifest(), scenes(), picture=True))
    assert matter["license"] == "apache-2.0"
    assert matter["size_categories"] == ["n<1K"]
    assert matter["configs"][0]["data_files"] == [{"split": "train", "path": "shards/*.parquet"}]
    assert "occupancy" in matter["tags"]


def test_a_numpy_corpus_promises_no_table():
    assert "configs" not in front_matter(card(small_plan(4, container="numpy"), a_manifest(), scenes(), False))


def test_the_picture_is_shown_only_where_there_is_one():
    assert "![preview](preview.png)" in card(small_plan(4), a_manifest(), scenes(), True)
    assert "preview.png" not in card(small_plan(4), a_manifest(), scenes(), False)


@pytest.mark.parametrize(("terms", "field"), [("CC-BY-NC-SA-4.0", "cc-by-nc-sa-4.0"), ("Ask: our lawyers", "other")])
def test_the_terms_of_recorded_logs_are_inherited(terms, field):
    text = card(small_plan(4), a_manifest(), scenes(licence=terms), False)
    assert front_matter(text)["license"] == field
    assert terms in text.rpartition("## Licence")[2]


def test_the_terms_of_what_a_checkpoint_was_trained_on_are_inherited():
    plan = small_plan(4, fingerprint_of_generator={"licence": "cc-by-4.0"})
    assert licence(plan, []) == "cc-by-4.0"
    silent = replace(small_plan(4), generator="diffusion")
    assert front_matter(card(silent, a_manifest(), scenes(), False))["license"] == "unknown"


def test_class_shares_are_those_of_the_voxels():
    sample = scenes()
    shares = class_shares(sample)
    voxels = np.concatenate([s.semantics.reshape(-1) for s in sample])
    assert shares.sum() == pytest.approx(1)
    assert shares[17] == (voxels == 17).mean()
    assert f"| 17 | car | {100 * shares[17]:.3f} % |" in card(small_plan(4), a_manifest(), sample, False)


def test_failures_are_listed_and_long_lists_cut():
    failures = [FailedScene(4 + i, 5, "RuntimeError: a | b") for i in range(30)]
    text = card(small_plan(34), a_manifest(failures), scenes(), False)
    assert "4 of 34 asked for, 30 failed" in text
    assert "RuntimeError: a / b" in text
    assert "10 more are listed" in text


def test_the_command_in_the_card_makes_the_plan_again():
    plan = replace(small_plan(columns=("boxes",), labels="carlasc"), generator="procedural")
    config = replace(plan.config, grid=preset("tiny").grid, clip=preset("tiny").clip, vae=preset("tiny").vae)
    plan = replace(plan, fingerprint_of_generator={"city": 1, "frame": "world"}, config=config)
    line = command_line(plan)
    assert line == (
        "dyncity generate --out DIR --generator procedural --num-scenes 19 --seed 5 --micro-batch 4 "
        "--preset tiny --frame world --command mixed --scenes-per-shard 8 --labels carlasc --container parquet "
        "--columns boxes"
    )
    assert line in card(plan, a_manifest(), scenes(), False)


def test_a_source_that_the_command_line_does_not_know_has_no_command():
    assert command_line(small_plan()) is None
    assert "```bash" not in card(small_plan(4), a_manifest(), scenes(), False)


def test_a_corpus_without_scenes_has_a_card():
    failures = [FailedScene(i, 5, "ValueError: no") for i in range(3)]
    empty = Manifest(
        {"num_scenes": 3}, "0" * 64, (ShardRecord("00000.parquet", 0, "0" * 64, 0, 0, 0, tuple(failures)),)
    )
    assert "0 of 3 asked for, 3 failed" in card(small_plan(3), empty, [], False)


def test_conditions_are_counted_scene_by_scene():
    made = scenes()
    maps = np.zeros((6, FRAMES, 2, 2), bool)
    layout = Layout(maps, np.array([name in ("road", "vehicle") for name in LAYOUT_CLASSES]))
    made[0] = replace(made[0], conditions=replace(made[0].conditions, layout=layout))
    made[1] = replace(made[1], provenance=made[1].provenance | {"edit": "inpaint", "contradictions": 3})
    made[2] = replace(made[2], provenance=made[2].provenance | {"contradictions": 2})
    text = card(small_plan(4), a_manifest(), made, False)
    for row in ("command static", "command right", "layout of road", "layout of vehicle", "edit: inpaint"):
        assert f"| {row} | 1 |" in text
    assert "| conditions that contradict themselves | 2 |" in text
    assert "contradictions: 5 " in text
    assert "layout of building" not in text
    bare = [replace(scene, conditions=Conditions()) for scene in scenes()]
    assert "## Conditions" not in card(small_plan(4), a_manifest(), bare, False)


def test_agents_as_decoded_and_as_written_are_both_said():
    made = scenes()[:2]
    number = LAYOUT_CLASSES.index("pedestrian")
    for i, scene in enumerate(made):
        maps = np.zeros((6, FRAMES, *scene.grid.shape[:2]), bool)
        maps[number, :, 0, :] = True
        layout = Layout(maps, np.arange(6) == number, scene.grid)
        said = {"asked_pedestrian_columns": 20, "decoded_pedestrian_columns": 5}
        semantics = np.zeros_like(scene.semantics)
        semantics[:, 0, :, 0] = NATIVE.id("pedestrian") * (i == 0)
        conditions = replace(scene.conditions, layout=layout)
        made[i] = replace(scene, conditions=conditions, semantics=semantics, provenance=scene.provenance | said)
    text = card(small_plan(4), a_manifest(), made, False)
    assert "asked pedestrian columns: 25 % hold one as decoded, 50 % as written: who is missing is drawn" in text
    assert "asked vehicle columns" not in text
    assert "as decoded" not in card(small_plan(4), a_manifest(), scenes(), False)
