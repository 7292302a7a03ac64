from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyncity.datasets.long_json import members_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    members=st.dictionaries(st.text(max_size=3), VALUES, max_size=4),
    rows=st.lists(VALUES, max_size=5),
    indent=st.sampled_from([None, 0, 3]),
)
def test_it_reads_what_json_reads(members: dict[str, Any], rows: list[Any], indent: int | None) -> None:
    taken: list[Any] = []
    read = members_of(json.dumps(members | {"rows": rows}, indent=indent), "rows", taken.append)
    assert (read, taken) == (members | {"rows": []}, rows)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "}", '{"rows": [1,]}', '{"rows": [1 2]}', '{"rows": [', '{"a" 1}', '{"a": 1,}', "{1: 2}",
     '{"a": 1} {}', '{"a": 1, "a": 2}', '{"rows": [], "rows": []}', '{"rows": [{"a": 1, "a": 2}]}', '{"a": NaN}',
     "{'a': 1}", '{"a": 1]', '{"rows": [1}'],
)  # fmt: skip
def test_what_json_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        members_of(text, "rows", lambda value: None)


def test_the_long_key_may_hold_something_else() -> None:
    assert members_of('{"rows": {"a": 1}}', "rows", pytest.fail) == {"rows": {"a": 1}}
