"""The order in which clips are drawn: reproducible, whole, apart on ranks, at the ratio, few groups decoded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader

from dyncity.datasets.corpus import Corpus, open_corpus
from dyncity.datasets.mixing import mixed
from dyncity.datasets.sampling import ShardSampler
from dyncity.datasets.shards import OccupancyShards
from dyncity.errors import InputError

ROOT = Path(__file__).parents[2]
quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings_of_a_run = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**63 - 1),
        "batch_size": st.integers(1, 7),
        "streams": st.integers(1, 4),
        "shuffle": st.booleans(),
    }
)


@pytest.fixture
def corpora(make_scene, write_corpus, tmp_path):
    """Nine scenes of 4 frames in five groups, and thirteen in seven."""
    real = write_corpus(tmp_path / "real", [make_scene(i) for i in range(9)])
    synthetic = write_corpus(tmp_path / "synthetic", [make_scene(100 + i) for i in range(13)])
    return open_corpus(real), open_corpus(synthetic)


@pytest.fixture
def decoded(monkeypatch):
    """Groups in the order in which they are decoded."""
    groups = []
    read = Corpus.scenes_of_group

    def counted(self, scene_id):
        groups.append(self.group(scene_id))
        return read(self, scene_id)

    monkeypatch.setattr(Corpus, "scenes_of_group", counted)
    return groups


def drawn(sampler: ShardSampler, epoch: int = 0) -> list[int]:
    sampler.set_epoch(epoch)
    numbers = list(sampler)
    assert len(numbers) == len(sampler)
    return numbers


@quick
@given(settings_of_a_run, st.integers(0, 5), st.integers(1, 12), st.sampled_from([1, 2, 4]))
def test_ranks_together_see_every_clip_and_repeat_only_the_filling(corpora, options, epoch, world_size, frames):
    clips = OccupancyShards(corpora[0], frames=frames, cached_bytes=1000)
    ranks = [
        drawn(ShardSampler(clips, rank=rank, world_size=world_size, **options), epoch) for rank in range(world_size)
    ]
    assert {len(numbers) for numbers in ranks} == {-(-len(clips) // world_size)}
    times = Counter(number for numbers in ranks for number in numbers)
    assert sorted(times) == list(range(len(clips)))
    assert sum(times.values()) - len(times) < world_size
    if len(clips) >= world_size:
        assert sum(n > 1 for n in times.values()) == -len(clips) % world_size


@quick
@given(
    settings_of_a_run,
    st.integers(0, 5),
    st.integers(1, 4),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from([1, 2, 4]),
)
def test_every_cycle_has_the_ratio_and_every_real_clip_is_seen(corpora, options, epoch, world_size, ratio, frames):
    real, synthetic = (OccupancyShards(corpus, frames=frames, cached_bytes=1000) for corpus in corpora)
    seen = set()
    for rank in range(world_size):
        sampler = ShardSampler([real, synthetic], ratio, rank=rank, world_size=world_size, **options)
        is_real = np.array([number < len(real) for number in drawn(sampler, epoch)])
        share = ratio[0] // np.gcd(*ratio)
        cycles = is_real.reshape(-1, sum(ratio) // np.gcd(*ratio))
        assert (cycles.sum(axis=1) == share).all()
        for start in range(1, len(is_real)):  # no cycle begins with all of one kind
            assert abs(is_real[:start].sum() - start * ratio[0] / sum(ratio)) < 1
        seen |= set(drawn(sampler, epoch))
    assert set(range(len(real))) <= seen
    assert max(seen) < len(real) + len(synthetic)


@quick
@given(st.integers(0, 2**63 - 1), st.integers(1, 3), st.integers(1, 3))
def test_synthetic_clips_go_on_where_the_last_epoch_stopped(corpora, seed, world_size, streams):
    real, synthetic = OccupancyShards(corpora[0]), OccupancyShards(corpora[1], frames=1)
    samplers = [
        ShardSampler([real, synthetic], seed=seed, rank=rank, world_size=world_size, batch_size=2, streams=streams)
        for rank in range(world_size)
    ]
    taken: list[int] = []
    for epoch in range(20):
        taken += [n - len(real) for sampler in samplers for n in drawn(sampler, epoch) if n >= len(real)]
    once = -(-len(synthetic) // (world_size * len(samplers[0]) // 2)) - 1  # epochs that end within the first pass
    first = taken[: once * world_size * len(samplers[0]) // 2]
    assert len(set(first)) == len(first) > 0
    times = Counter(taken)
    assert sorted(times) == list(range(len(synthetic)))
    assert max(times.values()) - min(times.values()) <= 1


def test_an_epoch_is_decided_by_seed_and_number(corpora):
    clips = OccupancyShards(corpora[0], frames=1)
    orders = [drawn(ShardSampler(clips, seed=seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(map(tuple, orders))) == 4
    assert drawn(ShardSampler(OccupancyShards(corpora[0], frames=1), seed=1), 1) == orders[3]
    assert drawn(ShardSampler(clips, shuffle=False), 1) == list(range(len(clips)))


def test_corpora_of_one_size_are_shuffled_apart(corpora):
    """Else a real clip would meet the same synthetic one again and again."""
    clips = OccupancyShards(corpora[0], frames=4)
    numbers = np.array(drawn(ShardSampler([clips, clips], seed=3)))
    first, second = numbers[numbers < len(clips)], numbers[numbers >= len(clips)] - len(clips)
    assert sorted(first) == sorted(second)
    assert first.tolist() != second.tolist()


# A spawned worker imports torch anew, seconds each.
@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_the_number_of_workers_changes_nothing(corpora, start):
    parts = [OccupancyShards(corpus, frames=2) for corpus in corpora]
    clips, sampler = mixed(parts, (2, 1), seed=3, batch_size=3, streams=2)
    sampler.set_epoch(4)
    alone = list(DataLoader(clips, 3, sampler=sampler))
    together = list(DataLoader(clips, 3, sampler=sampler, num_workers=2, multiprocessing_context=start))
    assert len(alone) == len(together) == 9
    for a, b in zip(alone, together, strict=True):
        assert a["scene_id"] == b["scene_id"]
        torch.testing.assert_close(a["semantics"], b["semantics"], rtol=0, atol=0)
        assert sum(int(scene_id[-6:]) < 100 for scene_id in a["scene_id"]) == 2


@pytest.mark.parametrize("held", [1, 2, 5])
def test_a_group_is_decoded_once_an_epoch_however_little_is_held(corpora, decoded, held):
    group = 2 * 4 * 8 * 6 * 4
    clips = OccupancyShards(corpora[0], frames=1, cached_bytes=held * group)
    numbers = drawn(ShardSampler(clips, seed=held))
    for number in numbers:
        clips[number]
    assert len(decoded) == len(set(decoded)) == 5
    assert numbers != sorted(numbers)
    switches = sum(clips.clips[a][0] != clips.clips[b][0] for a, b in zip(numbers, numbers[1:], strict=False))
    assert switches > 9  # clips of the two scenes of a group come mixed


@pytest.mark.parametrize("batch_size", [1, 3])
def test_each_worker_decodes_groups_of_its_own(corpora, decoded, batch_size):
    """What worker k is given: batches k, k + 2, ...; one group at the seam may be decoded by both."""
    numbers = drawn(ShardSampler(OccupancyShards(corpora[1], frames=1), seed=2, batch_size=batch_size, streams=2))
    batches = [numbers[k : k + batch_size] for k in range(0, len(numbers), batch_size)]
    for worker in range(2):
        clips = OccupancyShards(corpora[1], frames=1)
        for batch in batches[worker::2]:
            for number in batch:
                clips[number]
    assert len(set(decoded)) == 7
    assert len(decoded) <= 8


def test_ranks_come_from_the_process_group_then_from_torchrun(corpora, monkeypatch):
    clips = OccupancyShards(corpora[0])
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert drawn(ShardSampler(clips)) == drawn(ShardSampler(clips, rank=1, world_size=2))
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        assert drawn(ShardSampler(clips)) == drawn(ShardSampler(clips, rank=0, world_size=1))
    finally:
        torch.distributed.destroy_process_group()
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(InputError, match="WORLD_SIZE"):
        ShardSampler(clips)


SCRIPT = """
import sys
import torch.distributed as dist
from torch.utils.data import DataLoader
from dyncity.datasets.sampling import ShardSampler
from dyncity.datasets.shards import OccupancyShards
dist.init_process_group("gloo")
clips = OccupancyShards(sys.argv[1], frames=2)
sampler = ShardSampler(clips, seed=1, batch_size=2)
for epoch in range(2):
    sampler.set_epoch(epoch)
    for batch in DataLoader(clips, 2, sampler=sampler):
        for scene, frame in zip(batch["scene_id"], batch["first_frame"]):
            print(f"{epoch} {dist.get_rank()} {scene} {frame}\\n", end="", flush=True)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_under_torchrun_share_an_epoch(corpora, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, corpora[0].folder]
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    for epoch in "01":
        clips = [(scene, frame) for e, _, scene, frame in lines if e == epoch]
        assert len(clips) == len(set(clips)) == 18
        assert Counter(rank for e, rank, _, _ in lines if e == epoch) == {"0": 9, "1": 9}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rank": 2, "world_size": 2}, "found 2 of 2"),
        ({"rank": 0}, "found 0 of None"),
        ({"batch_size": 0}, "batch_size: found 0"),
        ({"streams": 0}, "streams: found 0"),
        ({"seed": -1}, "found -1"),
        ({"ratio": (1, 1)}, "for 1 data sets"),
        ({"ratio": (0,)}, "for 1 data sets"),
        ({"ratio": (0.5,)}, "for 1 data sets"),
    ],
)
def test_what_cannot_be_sampled_is_refused_at_once(corpora, options, text):
    with pytest.raises(InputError, match=text):
        ShardSampler(OccupancyShards(corpora[0]), **options)


def test_epochs_count_from_zero(corpora):
    with pytest.raises(InputError, match="epoch: found -1"):
        ShardSampler(OccupancyShards(corpora[0])).set_epoch(-1)


def test_a_mix_is_the_clips_of_both(corpora):
    real, synthetic = (OccupancyShards(corpus, frames=4) for corpus in corpora)
    clips, sampler = mixed([real, synthetic], (1, 3), seed=5)
    assert isinstance(clips, ConcatDataset)
    ids = [clips[number]["scene_id"] for number in drawn(sampler)]
    assert sum(scene_id < "scene-000100" for scene_id in ids) == 9
    assert len(ids) == 36


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"labels": "semantickitti"}, "label space: semantickitti, in the first corpus: native"),
        ({"labels": np.zeros(256, np.uint8)}, "label space: a table"),
        ({"frames": 2}, r"length of clips: \[2\]"),
    ],
)
def test_clips_that_do_not_stack_are_not_mixed(corpora, options, text):
    with pytest.raises(InputError, match=text):
        mixed([OccupancyShards(corpora[0]), OccupancyShards(corpora[1], **options)])


def test_corpora_of_other_columns_are_mixed_without_them(corpora, make_scene, write_corpus, tmp_path):
    folder = write_corpus(tmp_path / "masked", [make_scene(1, columns=("mask_lidar",))], columns=("mask_lidar",))
    real = OccupancyShards(corpora[0])
    with pytest.raises(InputError, match="its columns:"):
        mixed([real, OccupancyShards(folder)])
    clips, _ = mixed([real, OccupancyShards(folder, columns=())])
    assert clips[0].keys() == clips[9].keys()


def test_world_fixed_clips_are_not_mixed_with_others(corpora, make_scene, write_corpus, tmp_path):
    folder = write_corpus(tmp_path / "fixed", [make_scene(1, anchor=2)])
    with pytest.raises(InputError, match="its anchor: 2"):
        mixed([OccupancyShards(corpora[0]), OccupancyShards(folder)])


def test_nothing_cannot_be_mixed():
    with pytest.raises(InputError, match="for 0 data sets"):
        mixed([])
