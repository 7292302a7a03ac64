"""The folder of a corpus: what is refused, replaced or resumed, and what stays when the input fails."""

import threading

import pytest
from numbered_scenes import contents, small_plan, source
from rewritten_manifest import rewritten

from dyncity.datasets.corpus import read_manifest
from dyncity.errors import InputError
from exporters.manifest import RunLock, verify_corpus
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus


def make(out, plan=None, build=None, exporter=None, **options):
    return make_corpus(plan or small_plan(), build or source(), exporter or ParquetExporter(), out, **options)


def draw(scenes, path):
    path.write_bytes(("picture of " + " ".join(s.scene_id for s in scenes)).encode())


def test_what_exists_is_not_touched_without_being_told_to(tmp_path):
    make(tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=r"out: already exists; use --resume or --overwrite"):
        make(tmp_path / "out", small_plan(seed=6))
    assert contents(tmp_path / "out") == before


def test_overwrite_replaces_a_corpus_and_nothing_of_it_stays(tmp_path):
    make(tmp_path / "out", small_plan(40), preview=draw)
    make(tmp_path / "out", small_plan(3, seed=6), overwrite=True)
    make(tmp_path / "fresh", small_plan(3, seed=6))
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_overwrite_says_what_it_deletes_before_it_does(tmp_path):
    make(tmp_path / "out", small_plan(40), preview=draw)
    before, said = contents(tmp_path / "out"), []

    def say(line):
        said.append(line)
        assert {n: b for n, b in contents(tmp_path / "out").items() if n != ".lock"} == before

    make(tmp_path / "out", small_plan(3, seed=6), overwrite=True, say=say)
    size = sum(map(len, before.values()))
    assert said == [f"--overwrite deletes {tmp_path / 'out'}: 40 scenes in 5 shards, {size} bytes"]
    (tmp_path / "out" / "manifest.json").write_text("{}")
    make(tmp_path / "out", small_plan(3, seed=6), overwrite=True, say=said.append)
    assert said[1].endswith("without a manifest that can be read")
    make(tmp_path / "new", small_plan(3), overwrite=True, say=said.append)
    assert len(said) == 2


def test_a_resume_tells_how_far_it_has_compared(tmp_path):
    """Digesting what is there takes hours where there is much."""
    make(tmp_path / "out", small_plan(40))
    told = []
    make(tmp_path / "out", small_plan(40), resume=True, compared=lambda *count: told.append(count))
    assert told == [(done, 5) for done in range(6)]


@pytest.mark.parametrize("change", [{"first_scene": 4, "scenes": 4}, {"name": "00003.parquet"}, {"scenes": 4}])
def test_a_shard_that_the_plan_does_not_have_is_refused(tmp_path, change):
    """By a manifest that somebody else wrote, under the plan's own fingerprint."""
    make(tmp_path / "out", small_plan(16))
    rewritten(tmp_path / "out", lambda values: values["shards"][0].update(change))
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=r"shard 0000\d\.parquet is none of its plan's"):
        make(tmp_path / "out", small_plan(16), resume=True)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("options", [{"overwrite": True}, {"resume": True}, {}])
def test_a_folder_that_is_no_corpus_is_never_touched(tmp_path, options):
    (tmp_path / "thesis" / "shards").mkdir(parents=True)
    (tmp_path / "thesis" / "manifest.json").write_text('{"name": "a browser extension"}')
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    before = contents(tmp_path / "thesis")
    with pytest.raises(InputError):
        make(tmp_path / "thesis", **options)
    assert contents(tmp_path / "thesis") == before


@pytest.mark.parametrize("options", [{"overwrite": True}, {"resume": True}])
def test_a_folder_of_somebody_else_with_names_of_a_corpus_is_no_corpus(tmp_path, options):
    (tmp_path / "site" / "shards").mkdir(parents=True)
    for name in ("README.md", "config.json", "shards/data.bin"):
        (tmp_path / "site" / name).write_text("{}")
    with pytest.raises(InputError, match=r"it is no corpus: it holds README\.md"):
        make(tmp_path / "site", **options)
    make(tmp_path / "run")
    for name in ("manifest.json", "README.md"):
        (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / "model.safetensors").write_text("weights")  # a run of training has a configuration too
    before = contents(tmp_path / "run")
    with pytest.raises(InputError, match=r"it is no corpus: it holds model\.safetensors"):
        make(tmp_path / "run", **options)
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("lost", [("manifest.json",), ("manifest.json", "config.json", "README.md")])
def test_a_corpus_that_was_killed_before_its_manifest_is_one(tmp_path, lost):
    make(tmp_path / "whole")
    make(tmp_path / "out")
    for name in lost:
        (tmp_path / "out" / name).unlink()
    if len(lost) > 1:  # nothing is there yet but the folder of the shards
        for path in (tmp_path / "out" / "shards").iterdir():
            path.unlink()
    make(tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_overwriting_leaves_files_of_others_inside_a_corpus_alone(tmp_path):
    make(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    make(tmp_path / "out", small_plan(3), overwrite=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_link_for_shards_is_not_followed(tmp_path):
    make(tmp_path / "out")
    (tmp_path / "out" / "shards").rename(tmp_path / "elsewhere")
    (tmp_path / "out" / "shards").symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path / "elsewhere")
    for options in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(InputError, match="it is a link"):
            make(tmp_path / "out", small_plan(3), **options)
    assert contents(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("where", ["file/out", "file", "/proc/dyncity/out"])
def test_places_that_cannot_be_written_are_one_line(tmp_path, where):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(InputError) as error:
        make(tmp_path / where)
    assert "\n" not in str(error.value)
    assert {p.name for p in tmp_path.iterdir()} == {"file"}


def test_input_that_fails_in_the_generator_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="of another grid"):
        make(tmp_path / "new" / "out", build=source(refuses=2))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_used_and_stays_when_the_input_is_bad(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError):
        make(tmp_path / "out", build=source(refuses=0))
    assert list((tmp_path / "out").iterdir()) == []
    make(tmp_path / "out")
    assert verify_corpus(tmp_path / "out") == []


def test_input_that_fails_gives_the_overwritten_corpus_back(tmp_path):
    make(tmp_path / "out", preview=draw)
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match="of another grid"):
        make(tmp_path / "out", small_plan(seed=6), source(refuses=0), overwrite=True)
    assert contents(tmp_path / "out") == before


def test_what_was_committed_before_the_input_failed_can_be_resumed(tmp_path):
    make(tmp_path / "whole", preview=draw)
    with pytest.raises(InputError, match="of another grid"):
        make(tmp_path / "out", build=source(refuses=18))
    assert read_manifest(tmp_path / "out").written == 16
    result = make(tmp_path / "out", resume=True, preview=draw)
    assert (result.resumed, result.written) == (16, 19)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 6}, "seed is 5, not 6"), ({"num_scenes": 20}, "num_scenes"), ({"micro_batch": 8}, "micro_batch")],
)
def test_a_resume_under_another_plan_is_refused_by_the_field_that_differs(tmp_path, change, named):
    make(tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=named):
        make(tmp_path / "out", small_plan(**change), source(micro_batch=change.get("micro_batch", 4)), resume=True)
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("damage", ["lost", "flipped", "cut"])
def test_resume_makes_damaged_and_missing_shards_anew(tmp_path, damage):
    make(tmp_path / "out", preview=draw)
    before = contents(tmp_path / "out")
    shard = tmp_path / "out" / "shards" / "00001.parquet"
    data = shard.read_bytes()
    if damage == "lost":
        shard.unlink()
    else:
        shard.write_bytes(data[:-7] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    result = make(tmp_path / "out", resume=True, preview=draw)
    assert result.resumed == 11
    assert contents(tmp_path / "out") == before


def test_resume_starts_where_there_is_nothing(tmp_path):
    make(tmp_path / "a", resume=True)
    make(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_resuming_a_finished_corpus_changes_nothing(tmp_path):
    make(tmp_path / "out", preview=draw)
    before = contents(tmp_path / "out")
    assert make(tmp_path / "out", resume=True, preview=draw, build=source(refuses=0)).resumed == 19
    assert contents(tmp_path / "out") == before


def test_resume_and_overwrite_exclude_each_other(tmp_path):
    with pytest.raises(InputError, match="--resume"):
        make(tmp_path / "out", resume=True, overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_of_two_runs_on_one_folder_one_goes_on_and_the_other_says_why_not(tmp_path):
    make(tmp_path / "out")
    before = contents(tmp_path / "out")
    with RunLock(tmp_path / "out"), pytest.raises(InputError, match="another run"):
        make(tmp_path / "out", small_plan(3), overwrite=True)
    assert contents(tmp_path / "out") == before


def test_two_runs_that_begin_together_make_one_corpus(tmp_path):
    outcomes = []

    def run():
        try:
            outcomes.append(make(tmp_path / "out", build=source(seconds=0.1)))
        except InputError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(not isinstance(o, InputError) for o in outcomes) == 1
    assert verify_corpus(tmp_path / "out") == []
