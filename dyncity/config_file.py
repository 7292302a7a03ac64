"""The configuration as plain values: loaded strictly, written out in full.

A preset (``dyncity.presets``) is a function that returns a Config. A YAML or JSON file and
``--set a.b=c`` override single values; an unknown key or a wrong type is an error that names the key.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import re
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union

from dyncity.bounded_files import MAX_YAML_BYTES, plain_yaml, read_json, read_text
from dyncity.config import Config
from dyncity.errors import InputError

# YAML 1.1 reads 8e-4 as a string, since it has no point; everybody else means a number.
_EXPONENT = re.compile(r"[-+]?\d+[eE][-+]?\d+")
_LARGEST = 2**63 - 1  # root seeds go so far, and nothing else that is configured or recorded


def to_dict(value: Any) -> Any:
    """A configuration as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_dict(v) for v in value]
    return value


def _convert(kind: Any, value: Any, key: str, where: str) -> Any:
    """``value`` as ``kind``, or InputError naming the key."""
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, where, key)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value in args:
            return value
        raise InputError(where, f"{key} is {_shown(value)}", f"use one of {', '.join(map(str, args))}")
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, key, where)
    if origin is tuple and isinstance(value, list | tuple) and len(value) == len(args):
        return tuple(_convert(a, v, key, where) for a, v in zip(args, value, strict=True))
    if kind is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)
    # Compared as they are: a whole number may be too large for any float. What is not finite fits no bound.
    if kind is float and type(value) in (int, float) and -_LARGEST <= value <= _LARGEST:
        return float(value)
    if kind is int and type(value) is int and -_LARGEST <= value <= _LARGEST:
        return value
    if kind in (bool, str) and type(value) is kind:
        return value
    name = f"a list of {len(args)}" if origin is tuple else getattr(kind, "__name__", str(kind))
    if kind in (int, float) and type(value) in (int, float):
        name = f"{'a whole' if kind is int else 'a finite'} number below 2^63"
    raise InputError(where, f"{key} is {_shown(value)}", f"give {name}")


def _shown(value: Any) -> str:
    """A value for an error, cut: the file that it is from may hold anything."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:80]}..."


@functools.cache  # a manifest has a record a shard, and resolving annotations takes longer than all the rest
def _fields(kind: Any) -> tuple[dict[str, dataclasses.Field[Any]], dict[str, Any]]:
    """The fields of a dataclass and their types, by name."""
    return {f.name: f for f in dataclasses.fields(kind)}, typing.get_type_hints(kind)


def from_dict(kind: Any, values: Any, where: str, prefix: str = "") -> Any:
    """A configuration dataclass from plain values, strictly.

    Args:
        kind: the dataclass.
        values: a mapping with a value for every field without a default.
        where: the file or option that errors name.
        prefix: the dotted key of ``values`` itself.

    Raises:
        InputError: unknown or missing keys, wrong types; the message names the key.
    """
    if not isinstance(values, dict):
        raise InputError(where, f"{prefix or 'the whole'} is {type(values).__name__}", "give a mapping of keys")
    fields, hints = _fields(kind)
    for key in values:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(fields)}"
            raise InputError(where, f"unknown key {'.'.join(filter(None, (prefix, str(key))))!r}", hint)
    given = {}
    for name, field in fields.items():
        key = ".".join(filter(None, (prefix, name)))
        if name in values:
            given[name] = _convert(hints[name], values[name], key, where)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(where, f"key {key!r} is missing", "add it")
    return kind(**given)


def read_config(path: Path) -> Config:
    """Config from a ``config.json`` that ``write_config`` wrote."""
    values = read_json(path, "give a folder that holds config.json", MAX_YAML_BYTES)
    return from_dict(Config, values, str(path))


def config_json(config: Config) -> str:
    """The configuration in full, as JSON text."""
    return json.dumps(to_dict(config), indent=2) + "\n"


def override(config: Config, settings: list[str], file: Path | None = None) -> Config:
    """``config`` with a YAML or JSON file and then ``a.b=c`` settings laid over it.

    Raises:
        InputError: a file that is not a mapping, an unknown key, a wrong type.
    """
    values = to_dict(config)
    if file is not None:
        try:
            loaded = plain_yaml(read_text(file, "give a YAML or JSON file", MAX_YAML_BYTES))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(file, f"not readable as YAML ({error})", "give a YAML or JSON file") from None
        if not isinstance(loaded, dict):
            raise InputError(file, f"found {type(loaded).__name__}", "give a mapping of keys")
        _merge(values, loaded)
        config = from_dict(Config, values, str(file))
        values = to_dict(config)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise InputError("--set", f"found {setting!r}", "write it as a.b=c")
        try:
            value = plain_yaml(text)
        except ValueError:
            raise InputError("--set", f"found {setting!r}", "write the value as YAML, e.g. 3 or [1, 2]") from None
        *parents, last = key.split(".")
        node: dict[str, Any] = {last: value}
        for parent in reversed(parents):
            node = {parent: node}
        _merge(values, node)
    return from_dict(Config, values, "--set") if settings else config


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    """Lay ``changes`` over ``values``, mapping by mapping, in place."""
    for key, change in changes.items():
        if isinstance(change, dict) and isinstance(values.get(key), dict):
            _merge(values[key], change)
        else:
            values[key] = change
