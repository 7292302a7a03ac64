"""Reading structs of Thrift's compact protocol: page headers and footers of Parquet files.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

_MAX_DEPTH = 8
_LIST, _STRUCT = (9, 10), 12


def read_struct(data: bytes, at: int = 0, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Fields of the struct that begins at ``at`` by their numbers, and where it ends.

    Whole numbers, truth values, bytes, lists and structs; of floating point numbers and maps Parquet has none.

    Raises:
        ValueError: it does not end, is nested deeper than any of Parquet's, or has a field of another kind.
    """
    fields: dict[int, Any] = {}
    number = 0
    if depth > _MAX_DEPTH:
        raise ValueError("a struct is nested too deep")
    try:
        while head := data[at]:
            step, kind, at = head >> 4, head & 15, at + 1
            if step:
                number += step
            else:
                number, at = _whole(data, at)
            if kind in (1, 2):
                fields[number] = kind == 1
            else:
                fields[number], at = _value(data, at, kind, depth)
    except IndexError:
        raise ValueError("a struct does not end") from None
    return fields, at + 1


def whole(fields: Any, number: int) -> int:
    """A whole number of a struct; -1 where there is none."""
    value = fields.get(number) if isinstance(fields, dict) else None
    return value if type(value) is int else -1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (4, 5, 6):
        return _whole(data, at)
    if kind == 8:
        length, at = _varint(data, at)
        if length > len(data) - at:
            raise ValueError("a struct does not end")
        return data[at : at + length], at + length
    if kind == _STRUCT:
        return read_struct(data, at, depth + 1)
    if kind in _LIST:
        return _list(data, at, depth + 1)
    if kind == 3:
        return data[at], at + 1
    raise ValueError("a struct has a field of an unknown kind")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    count, kind, at = data[at] >> 4, data[at] & 15, at + 1
    if count == 15:
        count, at = _varint(data, at)
    if depth > _MAX_DEPTH:
        raise ValueError("a list is nested too deep")
    if count > len(data) - at:  # an element takes a byte at least
        raise ValueError("a list is longer than what holds it")
    values = []
    for _ in range(count):
        # A truth value that is no field of a struct takes a byte.
        value, at = _value(data, at, 3 if kind in (1, 2) else kind, depth)
        values.append(value)
    return values, at


def _whole(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number of up to 10 bytes, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise ValueError("a number does not end")
