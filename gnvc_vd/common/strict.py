"""Plain data into frozen dataclasses, strictly: unknown keys, missing keys and wrong types are refused by name."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from gnvc_vd.conventions import GnvcError, UsageError

D = TypeVar("D")
MAX_FILE = 1 << 24  # bytes; an index of many shards is the largest there is
MAX_NUMBER = 1 << 20  # no size in a description is larger
MAX_STRING = 1000


def read_object(path: Path) -> Mapping[str, object]:
    """The JSON object in a file, which may come from a stranger."""
    require(path.is_file(), f"{path}: missing", GnvcError)
    require(path.stat().st_size <= MAX_FILE, f"{path}: too large to be a description", GnvcError)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise GnvcError(f"{path}: not JSON ({error})") from error
    require(isinstance(data, dict), f"{path}: not a JSON object", GnvcError)
    return cast(dict[str, object], data)


def parse(kind: type[D], data: object, where: str) -> D:
    """An instance of the dataclass from what JSON gives; `where` names the place in errors."""
    if not isinstance(data, Mapping):
        raise GnvcError(f"{where} should be an object")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in data:
        require(key in fields, f"{where} holds an unknown key {str(key)[:40]!r}", GnvcError)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise GnvcError(f"{where} lacks {name!r}")
    try:
        return kind(**values)
    except ValueError as error:
        raise GnvcError(f"{where}: {error}") from error


def require(holds: object, otherwise: str, error: type[Exception] = UsageError) -> None:
    """The one form of a check of values. Where `parse` reads them it names the place that a ValueError came from."""
    if not holds:
        raise error(otherwise)


def without_defaults(value: Any) -> Any:
    """Plain data without what is as by default: a field that comes later leaves older ones what they were."""
    if isinstance(value, tuple):
        return [without_defaults(one) for one in value]
    if not dataclasses.is_dataclass(value):
        return value
    values = {field.name: (getattr(value, field.name), field.default) for field in dataclasses.fields(value)}
    return {name: without_defaults(one) for name, (one, default) in values.items() if one != default}


def _value(hint: Any, data: Any, where: str) -> object:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if data is None and type(None) in arguments:
            return None
        kinds = [one for one in arguments if one is not type(None)]
        if len(kinds) > 1 and all(map(dataclasses.is_dataclass, kinds)):
            return parse(_kind_of(kinds, data, where), data, where)
        return _value(next((one for one in kinds if type(data) is one), kinds[0]), data, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return parse(hint, data, where)
    if origin is typing.Literal and data in arguments:
        return data
    if origin is dict and isinstance(data, Mapping):
        return {_key(arguments[0], k, where): _value(arguments[1], item, f"{where}.{k}") for k, item in data.items()}
    if origin is tuple and isinstance(data, list | tuple):
        return tuple(_value(arguments[0], item, where) for item in data)
    number = isinstance(data, int | float) and not isinstance(data, bool) and abs(data) <= MAX_NUMBER
    if number and (hint is float or (hint is int and isinstance(data, int))):
        return hint(data)
    if (hint is bool and isinstance(data, bool)) or (hint is str and isinstance(data, str) and len(data) <= MAX_STRING):
        return data
    raise GnvcError(f"{where} should be {getattr(hint, '__name__', hint)}, not {str(data)[:40]!r}")


def _key(hint: Any, key: Any, where: str) -> object:
    """A number may be written as text, as JSON and the command line have it."""
    return _value(hint, int(key) if hint is int and isinstance(key, str) and key.isdecimal() else key, where)


def _kind_of(kinds: list[type], data: object, where: str) -> type:
    """The dataclass of several that says of itself, by its default of `kind`, what the data say; the first by default.

    So that what was written before there were several is read as it was meant.
    """
    names = {str(next(one.default for one in dataclasses.fields(kind) if one.name == "kind")): kind for kind in kinds}
    stated = data.get("kind", next(iter(names))) if isinstance(data, Mapping) else None
    if isinstance(stated, str) and stated in names:
        return names[stated]
    raise GnvcError(f"{where} should be an object whose kind is {' or '.join(names)}, not {str(stated)[:40]!r}")
