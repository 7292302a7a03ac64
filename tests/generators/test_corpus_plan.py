"""A plan: which scenes go where, what is refused, and what the fingerprint sees."""

import json
import sys
import zlib
from dataclasses import replace

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered_scenes import FRAMES, small_config, small_plan

import dyncity
from dyncity.conditions import COMMANDS, LAYOUT_CLASSES, Layout
from dyncity.errors import InputError
from dyncity.presets import occ3d_waymo
from generators.installation import installation
from generators.plan import CorpusPlan, default_scenes_per_shard, difference


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 40))
def test_shards_partition_the_scenes_and_micro_batches_never_cross_them(scenes, micro_batch, per_shard):
    plan = small_plan(scenes, micro_batch=micro_batch, scenes_per_shard=per_shard)
    wanted = []
    for shard in plan.shards:
        assert [s.index for s in plan.specs(shard)] == list(range(shard.first, shard.first + shard.scenes))
        for specs, count in plan.micro_batches(shard):
            assert len(specs) == micro_batch
            assert specs[0].index % micro_batch == 0
            assert [s.index for s in specs] == list(range(specs[0].index, specs[0].index + micro_batch))
            wanted += [s.index for s in specs[:count]]
    assert wanted == list(range(scenes))


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60))
def test_a_scene_is_asked_the_same_in_a_longer_corpus(short, more):
    first, second = small_plan(short), small_plan(short + more)
    for shard in first.shards:
        for one, other in zip(first.specs(shard), map(second.spec, range(shard.first, 99)), strict=False):
            assert (one.index, one.seed, one.conditions.command) == (
                other.index,
                other.seed,
                other.conditions.command,
            )


def test_mixed_commands_are_equally_frequent():
    plan = small_plan(40)
    commands = [plan.spec(i).conditions.command for i in range(40)]
    assert {c: commands.count(c) for c in COMMANDS} == dict.fromkeys(COMMANDS, 10)


def test_a_trajectory_sets_the_command_that_it_carries_out():
    left = np.stack([np.arange(FRAMES), np.zeros(FRAMES), np.linspace(0, 1, FRAMES)], axis=1)
    plan = small_plan(2, trajectory=left)
    assert plan.spec(1).conditions.command == "left"
    assert np.array_equal(plan.spec(1).conditions.trajectory, left)
    with pytest.raises(InputError, match="--command: found 'right'"):
        small_plan(2, trajectory=left, command="right")


def test_each_scene_has_its_own_trajectory_where_there_are_as_many():
    ways = np.zeros((3, FRAMES, 3))
    ways[1, :, 0] = np.arange(FRAMES)
    plan = small_plan(3, trajectory=ways, command=None)
    for index in (0, 1, 2, 4):  # one more than there are fills up a micro-batch
        np.testing.assert_array_equal(plan.spec(index).conditions.trajectory, ways[index % 3])
    again = CorpusPlan.from_dict(json.loads(json.dumps(plan.to_dict())), "m")
    assert again.fingerprint() == plan.fingerprint()
    with pytest.raises(InputError, match="one for each of 2"):
        small_plan(2, trajectory=ways, command=None)
    ways[2, :, 1] = np.arange(FRAMES) * 100.0
    with pytest.raises(InputError, match=r"--trajectory, scene 2: from frame 0 to 1 it goes 500 m/s"):
        small_plan(3, trajectory=ways, command=None)


@pytest.mark.parametrize(
    ("field", "value", "option"),
    [
        ("num_scenes", 0, "--num-scenes"),
        ("num_scenes", -3, "--num-scenes"),
        ("num_scenes", 10**9, "--num-scenes"),
        ("seed", -1, "--seed"),
        ("seed", 2**63, "--seed"),
        ("micro_batch", 0, "--micro-batch"),
        ("scenes_per_shard", 0, "--scenes-per-shard"),
        ("command", "up", "--command"),
        ("labels", "kitti", "--labels"),
        ("container", "zip", "--container"),
        ("trajectory", np.zeros((FRAMES + 1, 3)), "--trajectory"),
        ("trajectory", np.zeros((FRAMES, 2)), "--trajectory"),
    ],
)
def test_bad_values_name_their_option(field, value, option):
    fields = {"num_scenes": 3} | {field: value}
    with pytest.raises(InputError) as error:
        small_plan(**fields)
    assert error.value.where == option
    assert "\n" not in str(error.value)


def test_seed_zero_and_the_largest_seed_are_seeds():
    assert small_plan(1, seed=0).spec(0).seed == 0
    assert small_plan(1, seed=2**63 - 1).spec(0).seed == 2**63 - 1


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 6},
        {"num_scenes": 20},
        {"scenes_per_shard": 12},
        {"micro_batch": 8},
        {"threads": 2},
        {"labels": "carlasc"},
        {"container": "numpy"},
        {"columns": ("instances",)},
        {"command": "left"},
        {"trajectory": np.zeros((FRAMES, 3)), "command": None},
        {"fingerprint_of_generator": {"version": 2}},
        {"config": replace(small_config(), preset="other")},
        {"versions": installation() | {"code": "0"}},
        {"versions": installation() | {"cpu": "none"}},
    ],
)
def test_whatever_decides_bytes_changes_the_fingerprint_and_is_named(change):
    plan = small_plan()
    other = replace(plan, **change)
    assert other.fingerprint() != plan.fingerprint()
    named = difference(plan.to_dict(), other.to_dict())
    assert named is not None
    assert named.split(" ")[0].split(".")[0] in change


def test_equal_plans_have_equal_fingerprints():
    assert small_plan().fingerprint() == small_plan().fingerprint()
    assert difference(small_plan().to_dict(), small_plan().to_dict()) is None


def test_default_shards_are_bounded_in_bytes_and_several_in_a_small_corpus():
    large = occ3d_waymo()
    per_shard = default_scenes_per_shard(10**6, large.clip.frames, large.grid)
    assert per_shard * large.clip.frames * large.grid.voxels <= 64 * 2**20
    plan = CorpusPlan("numbered", small_config(), 16)
    assert len(plan.shards) == 4


def test_a_million_scenes_are_planned_without_being_listed():
    plan = small_plan(10**6, scenes_per_shard=2, micro_batch=2)
    assert len(plan.shards) == 500_000
    assert (plan.shards[-1].number, plan.shards[-1].first, plan.shards[-1].scenes) == (499_999, 999_998, 2)
    assert sys.getsizeof(plan.shards) < 100
    with pytest.raises(IndexError):
        plan.shards[500_000]


def test_more_shards_than_a_manifest_holds_are_refused():
    with pytest.raises(InputError, match="--scenes-per-shard: makes 1000000 shards"):
        small_plan(2 * 10**6, scenes_per_shard=2, micro_batch=2)


def test_of_a_layout_the_fingerprint_sees_what_is_asked_and_nothing_else():
    frames, x, y, _ = small_config().clip_shape
    road, building = LAYOUT_CLASSES.index("road"), LAYOUT_CLASSES.index("building")
    given = np.arange(len(LAYOUT_CLASSES)) == road

    def fingerprint(marked: int | None, given: np.ndarray = given) -> str:
        maps = np.zeros((len(LAYOUT_CLASSES), frames, x, y), bool)
        if marked is not None:
            maps[marked, 0, 0, 0] = True
        return small_plan(2, layout=Layout(maps, given)).fingerprint()

    plain = fingerprint(None)
    assert fingerprint(building) == plain  # buildings are not asked for
    assert len({plain, fingerprint(road), fingerprint(None, ~given), small_plan(2).fingerprint()}) == 4


def test_the_fingerprint_sees_the_versions_of_all_that_writes_bytes():
    versions = {"dyncity": dyncity.__version__, "numpy": np.__version__, "pyarrow": pyarrow.__version__}
    found = small_plan().to_dict()["versions"]
    assert found.keys() == versions.keys() | {"code", "cpu"}
    assert found | versions == found
    assert small_plan(container="numpy").to_dict()["versions"] == found | {"zlib": zlib.ZLIB_RUNTIME_VERSION}
