"""Corpora in object storage, against servers of S3 and GCS: bytes, resume, overwrite, leases, what is refused."""

import time
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from numbered_scenes import contents, small_plan, source
from object_store import PASSWORD, USER, objects, s3_server

import cli
from dyncity.datasets.corpus import open_corpus, read_manifest
from dyncity.datasets.manifest import manifest_json
from dyncity.errors import InputError
from dyncity.object_storage import ObjectPath
from exporters.manifest import verify_corpus
from exporters.numpy import NumpyExporter
from exporters.parquet import ParquetExporter
from exporters.shard_digests import stored_shard_fault
from generators import lease
from generators.corpus import make_corpus
from generators.lease import Lease

PLAN = {"num_scenes": 10}


def make(out, exporter=None, build=None, plan=None, **options):
    exporter = exporter or ParquetExporter()
    plan = plan or small_plan(container=exporter.container, **PLAN)
    return make_corpus(plan, build or source(), exporter, out, **options)


def draw(scenes, path):
    path.write_bytes(("picture of " + " ".join(s.scene_id for s in scenes)).encode())


@pytest.fixture(scope="module")
def bucket(storage):
    """``bucket(prefix)``: a place in a bucket of this module."""
    name = storage.bucket("corpora")
    return lambda prefix: ObjectPath(storage.uri(f"{name}/{prefix}"))


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The corpus of the tests in a folder."""
    out = tmp_path_factory.mktemp("local") / "out"
    make(out, preview=draw)
    return out


@pytest.fixture(scope="module")
def stored(bucket):
    """The same corpus in object storage."""
    out = bucket("deep/stored")
    make(out, preview=draw)
    return out


def test_the_objects_are_the_files_of_a_folder(local, stored):
    made = objects(stored)
    assert made == contents(local)
    assert verify_corpus(stored) == []
    assert not any(secret.encode() in data for data in made.values() for secret in (USER, PASSWORD))


def test_scenes_are_read_where_they_lie(local, stored):
    for mine, other in zip(open_corpus(stored).scenes(), open_corpus(local).scenes(), strict=True):
        assert mine.scene_id == other.scene_id
        assert np.array_equal(mine.semantics, other.semantics)
    assert open_corpus(stored).config == open_corpus(local).config


@pytest.mark.slow
def test_clips_are_drawn_in_workers(stored):
    from torch.utils.data import DataLoader

    from dyncity.datasets.sampling import ShardSampler
    from dyncity.datasets.shards import OccupancyShards

    clips = OccupancyShards(stored, frames=3)
    names = [clips[0]["scene_id"]]  # a connection of this process, which a fork must not use
    for batch in DataLoader(clips, sampler=ShardSampler(clips), num_workers=1, multiprocessing_context="fork"):
        names += batch["scene_id"]
    assert sorted(names[1:]) == [f"scene-{i:06d}" for i in range(10)]


def test_numpy_shards_are_the_same_files_too(bucket, tmp_path):
    plan = small_plan(4, scenes_per_shard=2, micro_batch=2, container="numpy")
    make(tmp_path / "out", NumpyExporter(), source(micro_batch=2), plan)
    make(out := bucket("numpy"), NumpyExporter(), source(micro_batch=2), plan)
    assert objects(out) == contents(tmp_path / "out")
    assert verify_corpus(out) == []
    (out / "shards/00000/scene-000001.npz").write(b"short")
    (out / "shards/00001/scene-000003.npz").remove()
    assert [f.split(":")[1].rpartition("/")[2] for f in verify_corpus(out)] == ["00000", "00001"]
    with pytest.raises(InputError, match="damaged"):
        list(open_corpus(out).scenes())


def test_verify_names_every_damaged_missing_and_foreign_object(stored, bucket):
    out = bucket("damaged")
    for name, data in objects(stored).items():
        (out / name).write(data)
    whole = objects(out)
    first, second = "shards/00000.parquet", "shards/00001.parquet"
    (out / first).write(whole[first][:99] + bytes([whole[first][99] ^ 1]) + whole[first][100:])
    (out / second).remove()
    (out / "shards/notes.txt").write(b"mine")
    (out / "README.md").write(b"# Another card\n")
    findings = sorted(verify_corpus(out))
    assert [f.removeprefix(f"{out}/").split(":")[0] for f in findings] == [
        "README.md",
        first,
        second,
        "shards/notes.txt",
    ]
    with pytest.raises(InputError, match="no corpus"):
        verify_corpus(bucket("nothing"))


def test_digests_need_no_room_for_what_they_are_of(stored, monkeypatch):
    """A shard of any size is read a part at a time: no copy of one is made."""
    fetched = []
    monkeypatch.setattr(ObjectPath, "download", _noting(ObjectPath.download, fetched))
    assert verify_corpus(stored) == []
    assert sorted(path.name for path in fetched) == ["README.md", "config.json", "manifest.json", "preview.png"]
    fetched.clear()
    assert verify_corpus(stored, decode=True) == []
    assert {"00000.parquet", "00001.parquet"} < {path.name for path in fetched}


def _noting(download, fetched):
    def noted(self, path, most=None):
        fetched.append(path)
        download(self, path, most)

    return noted


def test_an_object_that_goes_while_others_are_read_is_missing(stored, bucket):
    """It was listed; when its turn comes it is gone."""
    records, place = read_manifest(stored).shards, bucket("gone")
    fault = stored_shard_fault(place / "shards", records[0], {records[0].name: records[0].bytes})
    assert fault is not None
    assert fault.found == "it is missing"


def test_the_manifest_of_many_shards_is_verified(stored, bucket):
    """More than 32 MiB, which is what is fetched of a companion: a hundred thousand shards."""
    place, whole = bucket("many"), objects(stored)
    manifest = read_manifest(stored)
    padded = {**manifest.plan, "trajectory": ["x" * 2**20] * 33}
    text = "".join(manifest_json(replace(manifest, plan=padded))).encode()
    for name, data in (whole | {"manifest.json": text}).items():
        (place / name).write(data)
    assert verify_corpus(place) == []


def test_a_shard_put_but_not_recorded_is_compared_and_kept(stored, bucket):
    out, whole = bucket("between"), objects(stored)
    # As a driver leaves it that dies after the PUT of a shard: the manifest does not know it.
    manifest = read_manifest(stored)
    early = "".join(manifest_json(replace(manifest, shards=manifest.shards[:1], files={}))).encode()
    for name, data in (whole | {"manifest.json": early}).items():
        (out / name).write(data)
    put = (out / "shards/00001.parquet").stamp()
    result = make(out, resume=True, preview=draw)
    assert (result.resumed, result.written) == (8, 10)
    assert (out / "shards/00001.parquet").stamp() == put
    assert objects(out) == whole
    # Other bytes under its name are an error, and a recorded shard of another size is made again.
    (out / "manifest.json").write(early)
    (out / "shards/00001.parquet").write(b"of somebody else")
    with pytest.raises(InputError, match="other bytes"):
        make(out, resume=True)
    (out / "manifest.json").write(whole["manifest.json"])
    make(out, resume=True, preview=draw)
    assert objects(out) == whole


@pytest.mark.parametrize("container", ["parquet", "numpy"])
def test_a_resume_finds_a_flipped_bit_and_keeps_the_rest(bucket, container):
    exporter = {"parquet": ParquetExporter, "numpy": NumpyExporter}[container]()
    make(out := bucket(f"flipped-{container}"), exporter, preview=draw)
    whole = objects(out)
    names = sorted(name for name in whole if name.startswith("shards/"))
    flipped = whole[names[0]][:50] + bytes([whole[names[0]][50] ^ 1]) + whole[names[0]][51:]
    (out / names[0]).write(flipped)
    kept = (out / names[-1]).stamp()
    result = make(out, exporter, resume=True, preview=draw)
    assert (result.resumed, result.written) == (2, 10)
    assert objects(out) == whole
    assert (out / names[-1]).stamp() == kept


def test_nothing_is_written_over_without_a_word(stored, bucket):
    for options in ({}, {"resume": True, "plan": small_plan(seed=6, **PLAN)}):
        with pytest.raises(InputError, match=r"already exists|another plan"):
            make(stored, **options)
    foreign = bucket("foreign")
    (foreign / "holiday.jpg").write(b"mine")
    with pytest.raises(InputError, match=r"it holds holiday.jpg"):
        make(foreign, overwrite=True)
    (foreign / "holiday.jpg").remove()
    (foreign / "README.md").write(b"mine")
    with pytest.raises(InputError, match=r"it holds README.md"):
        make(foreign, overwrite=True)
    assert objects(foreign) == {"README.md": b"mine"}
    neighbour = bucket("foreign-neighbour")
    with pytest.raises(InputError, match="another grid"):
        make(neighbour, build=source(refuses=0))
    assert objects(neighbour) == {}
    (neighbour / "shards" / "of-a-killed-run").write(b"x")
    (neighbour / "shards" / "of-a-killed-run").remove()  # in S3 leaves what stands for the folder
    assert neighbour.sizes(recursive=False) in ({"shards": -1}, {})
    make(neighbour, plan=small_plan(4))
    size, said = sum(map(len, objects(neighbour).values())), []
    make(neighbour, plan=small_plan(4, seed=9), overwrite=True, say=said.append)
    assert said == [f"--overwrite deletes {neighbour}: 4 scenes in 1 shards, {size} bytes"]
    assert read_manifest(neighbour).plan["seed"] == 9
    assert verify_corpus(neighbour) == []


def test_one_run_a_place_and_a_dead_one_lapses(bucket, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.2)
    monkeypatch.setattr(lease, "LAPSE", 1.0)
    out = bucket("leased")
    with Lease(out) as mine:
        with pytest.raises(InputError, match="another run is writing there"):
            make(out)
        mine.check()
    (out / ".lease-0123456789abcdef").write(b"7")  # of a run that was killed
    begun = time.monotonic()
    with Lease(out) as mine:
        assert time.monotonic() - begun > 1.0
        assert list(out.sizes()) == [mine.path.name]
        mine.path.remove()  # as a run does that takes this one for dead
        with pytest.raises(InputError, match="taken it over"):
            mine.check()


def test_a_name_that_leads_out_of_the_place_is_refused(s3):
    """Keys are any text: fetching a shard must not write outside the folder that it is fetched into."""
    out = ObjectPath(s3.uri(f"{s3.bucket('hostile')}/corpus"))
    (out / "README.md").write(b"x")
    key = "hostile/corpus/shards/%2e%2e/%2e%2e/evil"
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{s3.port}/{key}", b"x", method="PUT")).close()
    with pytest.raises(InputError, match=r"named 'shards/../../evil'|it holds"):
        verify_corpus(out)


@pytest.mark.parametrize(
    "where", ["missing-bucket", pytest.param("unreachable", marks=pytest.mark.slow), "garbled", "scheme"]
)
def test_what_cannot_be_reached_is_one_line(s3, where, capsys):
    uri = {
        "missing-bucket": s3.uri("no-such-bucket/corpus"),
        "unreachable": s3.uri("corpora/corpus").replace(f":{s3.port}", ":1"),
        "garbled": f"s3://{USER}:{PASSWORD}/x@corpora/corpus",
        "scheme": f"https://{USER}:{PASSWORD}@corpora/corpus",
    }[where]
    generate = ["generate", "--generator", "procedural", "--workers", "0", "--out", uri]
    for verb in (["verify", uri], generate)[: 1 if where == "unreachable" else 2]:  # one takes seconds to give up
        with pytest.raises(SystemExit) as ended:
            cli.main(verb)
        shown = capsys.readouterr()
        assert ended.value.code == 2
        assert all(said.startswith("verify: 0 shards") for said in shown.out.splitlines())  # it waits for some seconds
        (line,) = shown.err.splitlines()
        assert line.startswith("error: ")
        assert USER not in line
        assert PASSWORD not in line


@pytest.mark.parametrize(
    "verb", [["export", "corpus", "--format", "semantickitti"], ["encode", "--data", "a", "--vae", "b"]]
)
def test_what_takes_folders_says_so(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([*verb, "--out", "s3://bucket/prefix"])
    assert ended.value.code == 2
    assert "only local paths" in capsys.readouterr().err


def test_no_access_is_one_line(capsys):
    with s3_server(closed=True) as server, pytest.raises(SystemExit) as ended:
        cli.main(["verify", server.uri("closed/corpus")])
    assert ended.value.code == 2
    denied = "access is denied; check the credentials and what they allow"
    assert capsys.readouterr().err == f"error: s3://closed/corpus: {denied}\n"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("When reading key 'x/00403.parquet' in bucket '403': AWS Error NETWORK_CONNECTION", "does not answer"),
        ("When reading key 'forbidden/timeout': AWS Error NO_SUCH_BUCKET during HeadObject", "no such bucket"),
        ("When putting key 'x' in bucket 'y': AWS Error SLOW_DOWN during PutObject operation", "errors of its own"),
        ("When putting key 'x' in bucket 'y': AWS Error UNKNOWN (HTTP status 503)", "errors of its own"),
        ("When reading key 'x': AWS Error UNKNOWN (HTTP status 403): Forbidden", "access is denied"),
    ],
)
def test_what_a_service_says_is_no_matter_of_names(said, found):
    """A shard or a bucket may be called as an error is."""
    with pytest.raises(InputError, match=found), ObjectPath("s3://bucket/x")._readable_errors():
        raise OSError(said)
