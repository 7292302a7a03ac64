"""Footers of Parquet files, read without pyarrow: as pyarrow says, and where asking pyarrow would end the process."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyncity.datasets.corpus import open_corpus
from dyncity.datasets.parquet_footer import row_groups
from dyncity.datasets.thrift_compact import read_struct
from dyncity.errors import InputError

COLUMNS = ("mask_lidar", "mask_camera", "instances", "boxes")
SIZE_STATISTICS, REPETITIONS, DEFINITIONS = 16, 2, 3  # fields of ColumnMetaData and SizeStatistics


@pytest.fixture
def corpus(make_scene, write_corpus, tmp_path) -> Path:
    return write_corpus(tmp_path / "c", [make_scene(i, columns=COLUMNS) for i in range(2)], columns=COLUMNS)


def histograms(data: bytes) -> list[tuple[int, int]]:
    """How many levels the statistics of each column count, of a whole file."""
    length = int.from_bytes(data[-8:-4], "little")
    footer, end = read_struct(data[-8 - length : -8])
    assert end == length
    chunks = [chunk[3] for group in footer[4] for chunk in group[1]]
    statistics = [meta.get(SIZE_STATISTICS, {}) for meta in chunks]
    return [(len(one.get(REPETITIONS, [])), len(one.get(DEFINITIONS, []))) for one in statistics]


@pytest.mark.parametrize("version", ["1.0", "2.6"])
def test_a_footer_says_what_pyarrow_says(tmp_path, version):
    texts = [["a", None], [], ["bcd" * 1000]] * 20
    table = pa.table({"text": texts, "number": list(range(60)), "name": ["x"] * 60, "none": [None] * 60})
    pq.write_table(table, tmp_path / "x", row_group_size=23, compression="zstd", version=version)
    expected = pq.read_metadata(tmp_path / "x")
    with open(tmp_path / "x", "rb") as file:
        groups = row_groups(file)
    assert [group.rows for group in groups] == [23, 23, 14]
    for number, group in enumerate(groups):
        for i, chunk in enumerate(group.chunks):
            column = expected.row_group(number).column(i)
            first = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
            assert chunk.name == column.path_in_schema
            assert (chunk.start, chunk.values) == (first, column.num_values)
            assert (chunk.stored, chunk.size) == (column.total_compressed_size, column.total_uncompressed_size)


def test_statistics_that_contradict_the_schema_do_not_end_the_process(corpus):
    """One flipped bit: a list of levels is said to be longer or shorter, and what follows still reads."""
    path = corpus / "shards/00000.parquet"
    data = path.read_bytes()
    whole, refused = histograms(data), 0
    for place in range(len(data) - 8 - int.from_bytes(data[-8:-4], "little"), len(data) - 8):
        if data[place] & 15 != 6 or not 1 <= data[place] >> 4 <= 4:  # the head of a short list of 64-bit numbers
            continue
        for bit in (4, 5, 6):
            flipped = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            try:
                changed = histograms(flipped) != whole
            except (ValueError, AssertionError, KeyError, TypeError, AttributeError):
                continue
            if changed:
                path.write_bytes(flipped)
                try:
                    list(open_corpus(corpus).scenes())
                except InputError:
                    refused += 1
    assert refused


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "does not end"),
        (b"\x15", "does not end"),
        (b"\x15" + b"\xff" * 12, "a number does not end"),
        (b"\x18\x7fab", "does not end"),
        (b"\x19\xf5\xff\xff\xff\xff\x0f", "longer than what holds it"),
        (b"\x1c" * 20, "nested too deep"),
        (b"\x19" * 20, "nested too deep"),
        (b"\x17" + b"\x00" * 8, "unknown kind"),
    ],
)
def test_what_is_no_struct_is_refused(data, text):
    with pytest.raises(ValueError, match=text):
        read_struct(data)
