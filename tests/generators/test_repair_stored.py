"""Repair in object storage, against servers of S3 and GCS: exactly what is damaged is put again, under the lease."""

import pytest
from numbered_scenes import small_plan, source
from object_store import objects

import cli
from dyncity.datasets.manifest import read_manifest
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from exporters.manifest import verify_corpus
from exporters.numpy import NumpyExporter
from exporters.parquet import ParquetExporter
from generators import lease
from generators.corpus import make_corpus
from generators.lease import Lease
from generators.plan import CorpusPlan
from generators.repair import repair_corpus

EXPORTERS = {"parquet": ParquetExporter, "numpy": NumpyExporter}
RAISES = (3, 18)


def draw(scenes, path):
    path.write_bytes(" ".join(s.scene_id for s in scenes).encode())


def repair(out, build=None, **options):
    plan = CorpusPlan.from_dict(read_manifest(out).plan, str(out))
    build = build or source(raises=RAISES)
    return repair_corpus(plan, build(), build, EXPORTERS[plan.container](), out, preview=draw, **options)


def flip(place):
    data = bytearray(place.read(2**30))
    data[-9] ^= 4
    place.write(bytes(data))


@pytest.fixture(scope="module")
def bucket(storage):
    return storage.bucket("repair")


@pytest.fixture(params=["parquet", "numpy"])
def corpus(request, storage, bucket):
    """A corpus of three shards, two of whose scenes failed."""
    out = ObjectPath(storage.uri(f"{bucket}/{request.node.originalname}/{request.param}"))
    plan = small_plan(container=request.param)
    make_corpus(plan, source(raises=RAISES), EXPORTERS[request.param](), out, preview=draw)
    return out


def test_exactly_what_is_damaged_is_put_again(corpus):
    whole = objects(corpus)
    first, *_, last = sorted(name for name in whole if name.startswith("shards/"))
    flip(corpus / first)
    (corpus / last).remove()
    flip(corpus / "README.md")
    kept = {name: (corpus / name).stamp() for name in whole if name not in (first, last, "README.md")}
    result = repair(corpus)
    assert [name.partition(".")[0] for name in result.shards] == ["00000", "00002"]
    assert (result.scenes, result.files, result.left) == (7 + 2, ("README.md",), ())
    assert objects(corpus) == whole
    assert {name: (corpus / name).stamp() for name in kept} == kept
    assert repair(corpus, source(refuses=0)).shards == ()  # nothing is made where nothing is damaged


def test_what_lies_under_the_name_of_a_shard_goes_and_the_rest_is_told(corpus):
    whole = objects(corpus)
    name = read_manifest(corpus).shards[1].name
    for foreign in (f"shards/{name}/mine.npz", "notes.txt"):
        (corpus / foreign).write(b"mine")
    result = repair(corpus)
    assert result.shards == (name,)
    assert len(result.left) == 1
    assert "notes.txt: it does not belong" in result.left[0]
    (corpus / "notes.txt").remove()
    assert objects(corpus) == whole


def test_other_bytes_are_not_put_and_another_run_is_waited_for(corpus, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.2)
    monkeypatch.setattr(lease, "LAPSE", 1.0)
    first = sorted(name for name in objects(corpus) if name.startswith("shards/"))[0]
    flip(corpus / first)
    damaged = objects(corpus)
    with pytest.raises(InputError, match="made again it has other bytes"):
        repair(corpus, source(raises=(*RAISES, 5)))
    with pytest.raises(InputError, match=r"cannot be repaired here: fingerprint_of_generator.version is 1, not 2"):
        repair(corpus, source(version=2))
    with Lease(corpus), pytest.raises(InputError, match="another run is writing there"):
        repair(corpus)
    assert objects(corpus) == damaged
    assert len(verify_corpus(corpus)) == 1


def test_the_command_repairs_by_the_corpus_alone(s3, capsys):
    uri = s3.uri(f"{s3.bucket('repair-command')}/city")
    options = ("--num-scenes", "2", "--scenes-per-shard", "1", "--workers", "0")
    with pytest.raises(SystemExit):
        cli.main(["generate", "--generator", "procedural", *options, "--out", uri])
    out = ObjectPath(uri)
    whole = objects(out)
    flip(out / "shards/00001.parquet")
    with pytest.raises(SystemExit) as ended:
        cli.main(["generate", "--repair", "--workers", "0", "--out", uri])
    assert ended.value.code == 0
    assert "1 of 2 made again" in capsys.readouterr().out
    assert objects(out) == whole
