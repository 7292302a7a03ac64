"""Repair: exactly what is damaged is made again, to the same bytes; what cannot be is one line."""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numbered_scenes import FRAMES, contents, small_plan, source

from dyncity.conditions import Layout
from dyncity.datasets.manifest import read_manifest
from dyncity.errors import InputError
from exporters.manifest import RunLock, verify_corpus, write_manifest
from exporters.numpy import NumpyExporter
from exporters.parquet import ParquetExporter
from generators.corpus import make_corpus
from generators.plan import CorpusPlan
from generators.repair import repair_corpus
from generators.sources import of_plan

EXPORTERS = {"parquet": ParquetExporter, "numpy": NumpyExporter}
RAISES = (3, 18)


def draw(scenes, path):
    path.write_bytes(" ".join(s.scene_id for s in scenes).encode())


def make(out, container="parquet", **fields):
    plan = small_plan(container=container, **fields)
    make_corpus(plan, source(raises=RAISES), EXPORTERS[container](), out, preview=draw)
    return out


def repair(out, build=None, **options):
    plan = CorpusPlan.from_dict(read_manifest(out).plan, str(out))
    build = build or source(raises=RAISES)
    return repair_corpus(plan, build(), build, EXPORTERS[plan.container](), out, preview=draw, **options)


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=["parquet", "numpy"])
def original(request, tmp_path_factory):
    """A corpus of three shards, two of whose scenes failed."""
    return make(tmp_path_factory.mktemp("original") / "out", request.param)


@pytest.fixture
def corpus(original, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(original, tmp_path / "out")


def flip(path):
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 4]) + data[-8:])


def lose(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_an_undamaged_corpus_is_left_alone(corpus):
    before = times(corpus)
    result = repair(corpus, source(refuses=0))
    assert (result.shards, result.files, result.left) == ((), (), ())
    assert times(corpus) == before


def test_damaged_shards_are_made_again_and_nothing_else_is_touched(corpus, original):
    first, second, third = sorted((corpus / "shards").iterdir())
    flip(next(iter(first.iterdir())) if first.is_dir() else first)
    lose(third)
    kept = {path: time for path, time in times(corpus).items() if first not in (path, *path.parents)}
    diary = []
    result = repair(corpus, partial(watched, diary))
    assert result.shards == (first.name, third.name)
    assert result.scenes == 7 + 2
    assert contents(corpus) == contents(original)
    assert {path: times(corpus)[path] for path in kept} == kept
    assert second.exists()
    assert set(diary) <= set(range(8)) | set(range(16, 20))  # with those that fill up the last micro-batch
    assert verify_corpus(corpus) == []


def watched(diary):
    """The source of the corpus; it notes which scenes it makes."""
    generator = source(raises=RAISES)()
    inner = generator.generate

    def generate(specs):
        diary.extend(spec.index for spec in specs)
        return inner(specs)

    generator.generate = generate
    return generator


def test_a_folder_of_shards_that_is_gone_comes_back(corpus, original):
    lose(corpus / "shards")
    assert len(repair(corpus).shards) == 3
    assert contents(corpus) == contents(original)


@pytest.mark.parametrize("name", ["README.md", "config.json", "preview.png"])
def test_card_configuration_and_preview_are_written_again(corpus, original, name):
    flip(corpus / name)
    result = repair(corpus)
    assert (result.shards, result.files) == ((), (name,))
    assert contents(corpus) == contents(original)


def test_what_is_no_part_of_the_corpus_stays_and_is_told(corpus):
    (corpus / "notes.txt").write_text("mine")
    lose(sorted((corpus / "shards").iterdir())[1])
    result = repair(corpus)
    assert len(result.shards) == 1
    assert len(result.left) == 1
    assert "notes.txt: it does not belong" in result.left[0]


def test_bytes_that_would_be_others_are_not_put_in_place(corpus):
    shard = sorted((corpus / "shards").iterdir())[0]
    lose(shard)
    with pytest.raises(InputError, match="other bytes"):
        repair(corpus, source(raises=(*RAISES, 5)))
    assert not shard.exists()
    assert {p.name for p in corpus.iterdir()} == {"README.md", "manifest.json", "config.json", "preview.png", "shards"}


def test_another_source_or_version_is_refused_by_its_name(corpus, monkeypatch):
    lose(sorted((corpus / "shards").iterdir())[0])
    before = contents(corpus)
    with pytest.raises(InputError, match=r"cannot be repaired here: fingerprint_of_generator.version is 1, not 2"):
        repair(corpus, source(version=2))
    monkeypatch.setattr("generators.installation.__version__", "9")
    with pytest.raises(InputError, match=r"versions.dyncity is '.*', not '9'"):
        repair(corpus)
    assert contents(corpus) == before


def test_other_code_repairs_what_it_makes_the_same_bytes_of(corpus, original, monkeypatch):
    lose(sorted((corpus / "shards").iterdir())[0])
    monkeypatch.setattr("generators.installation._digest_of_code", lambda: "other")
    assert len(repair(corpus).shards) == 1
    assert contents(corpus) == contents(original)


def test_a_corpus_whose_manifest_says_less_of_its_installation_is_repaired(corpus, original):
    lose(sorted((corpus / "shards").iterdir())[0])
    old = replace(read_manifest(corpus), plan=json.loads((corpus / "manifest.json").read_text())["plan"])
    for name in ("code", "cpu"):
        del old.plan["versions"][name]
    text = json.dumps(old.plan, sort_keys=True, separators=(",", ":"))
    write_manifest(corpus, replace(old, fingerprint=hashlib.sha256(text.encode()).hexdigest()))
    assert len(repair(corpus).shards) == 1
    assert verify_corpus(corpus) == []


def test_where_the_shards_are_made_says_what_decides_them(corpus, original):
    """The head of a cluster has no GPU: what its own generator says of itself is not asked."""
    lose(sorted((corpus / "shards").iterdir())[0])
    plan = CorpusPlan.from_dict(read_manifest(corpus).plan, str(corpus))
    build, head = source(raises=RAISES), source(version=2)()
    exporter = EXPORTERS[plan.container]()
    with pytest.raises(InputError, match="version is 1, not 2"):
        repair_corpus(plan, head, build, exporter, corpus, preview=draw)
    repair_corpus(plan, head, build, exporter, corpus, fingerprint=build().fingerprint(), preview=draw)
    assert contents(corpus) == contents(original)


def test_what_another_run_holds_or_never_ended_or_is_damaged_itself_is_refused(corpus):
    with RunLock(corpus), pytest.raises(InputError, match="another run"):
        repair(corpus)
    manifest = read_manifest(corpus)
    data = (corpus / "manifest.json").read_bytes()
    write_manifest(corpus, replace(manifest, shards=manifest.shards[:2]))
    with pytest.raises(InputError, match="its run did not end; go on with --resume"):
        repair(corpus)
    (corpus / "manifest.json").write_bytes(data.replace(b'"seed": 5', b'"seed": 6', 1))
    with pytest.raises(InputError, match="sha256"):
        repair_corpus(small_plan(), source()(), source(), ParquetExporter(), corpus)


def test_a_link_for_shards_is_not_followed(corpus, tmp_path):
    (corpus / "shards").rename(tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", corpus / "shards")
    with pytest.raises(InputError, match="it is a link"):
        repair(corpus)


@pytest.mark.parametrize(
    "fields",
    [
        {"columns": ("instances",), "labels": "carlasc"},
        {"trajectory": (np.cumsum(np.ones((FRAMES, 3)), 0) - 1) * (1, 1, 0.1), "command": None},
        {"command": None, "container": "numpy"},
        {"layout": Layout(np.ones((6, 3, 4, 4), bool), np.array([True, False] * 3))},
    ],
)
def test_a_plan_comes_back_from_its_manifest(fields):
    plan = small_plan(**fields)
    values = json.loads(json.dumps(plan.to_dict()))
    again = CorpusPlan.from_dict(values, "m", fields.get("layout"))
    assert again.to_dict() == plan.to_dict()
    assert again.fingerprint() == plan.fingerprint()


def test_a_plan_that_needs_more_than_its_manifest_says_what(tmp_path):
    layout = Layout(np.ones((6, 3, 4, 4), bool), np.ones(6, bool))
    values = small_plan(layout=layout).to_dict()
    with pytest.raises(InputError, match="--layout"):
        CorpusPlan.from_dict(values, "m")
    for key in ("config", "seed", "columns"):
        with pytest.raises(InputError):
            CorpusPlan.from_dict({k: v for k, v in small_plan().to_dict().items() if k != key}, "m")


@pytest.mark.parametrize(
    "field", ["num_scenes", "columns", "trajectory", "fingerprint_of_generator", "command", "config"]
)
@pytest.mark.parametrize("value", ["x", 7, -1, None, [1, "a"], {"a": []}, 1e400])
def test_a_plan_that_somebody_made_up_is_a_plan_or_one_line(field, value):
    with suppress(InputError):
        CorpusPlan.from_dict(small_plan().to_dict() | {field: value}, "m")


@pytest.mark.parametrize(
    ("generator", "said", "verb"),
    [("argoverse2", {"importer": 1}, "import"), ("diffusion", {"edited_corpus_sha256": "0"}, "edit")],
)
def test_recordings_and_edits_are_repaired_by_what_made_them(generator, said, verb):
    plan = replace(small_plan(), generator=generator, fingerprint_of_generator=said)
    with pytest.raises(InputError, match=f"repeat the dyncity {verb} that made it with --resume"):
        of_plan(plan, None)
