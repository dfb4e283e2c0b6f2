"""From a notebook's parameters cell to a frozen configuration, and from that to a stable name.

A notebook's parameters are the field names of its preset in capitals, `None` meaning the preset's value. papermill only
warns of a parameter that the notebook does not have, so the notebook itself refuses it: every capitalised global must
be a field.
"""

import dataclasses
import difflib
import hashlib
import json
import re
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Config = TypeVar("Config")

_CAPITALS = re.compile(r"[A-Z][A-Z0-9_]*")
_PLAIN = (str, int, float, bool, list, tuple, types.NoneType)


def resolve_config(presets: Mapping[str, Config], namespace: Mapping[str, Any]) -> Config:
    """Build the configuration of this run: the preset of `SCALE`, overridden by the other capitalised names.

    presets: scale → frozen dataclass instance. namespace: the notebook's `globals()`, or a dict of parameters.
    Raises ValueError for an unknown scale, an unknown name (with the nearest known one) or a value of the wrong type.
    """
    parameters = {
        name: value for name, value in namespace.items() if _CAPITALS.fullmatch(name) and isinstance(value, _PLAIN)
    }
    scale = parameters.pop("SCALE", "smoke")
    if scale not in presets:
        raise ValueError(f"SCALE must be one of {sorted(presets)}, got {scale!r}")
    preset = presets[scale]
    annotations = get_type_hints(type(preset))
    overrides = {}
    for name, value in parameters.items():
        if name.lower() not in annotations:
            known = sorted(field.upper() for field in annotations)
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else f"; known: {', '.join(known)}"
            raise ValueError(f"unknown parameter {name}{hint}")
        if value is not None:
            overrides[name.lower()] = convert(value, annotations[name.lower()], name)
    return dataclasses.replace(preset, **overrides)


def convert(value: Any, annotation: Any, name: str) -> Any:
    """Return `value` as `annotation` asks (int → float, list → tuple, "1e-3" → float); ValueError where it cannot."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        for choice in arguments:
            try:
                return convert(value, choice, name)
            except ValueError:
                continue
    elif origin is Literal:
        if value in arguments:
            return value
        raise ValueError(f"{name} must be one of {list(arguments)}, got {value!r}")
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(convert(item, arguments[0], name) for item in value)
    elif annotation is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as a string
        except ValueError:
            pass
    elif annotation is types.NoneType:
        if value is None:
            return None
    elif isinstance(value, annotation) and not (annotation is int and isinstance(value, bool)):
        return value
    expected = getattr(annotation, "__name__", None) if origin is None else str(annotation)
    raise ValueError(f"{name} must be {expected}, got {value!r} ({type(value).__name__})")


def unhashed(default: Any) -> Any:
    """A dataclass field that does not change the result (a device, a path, a number of workers): outside the hash."""
    return dataclasses.field(default=default, metadata={"hashed": False})


def hashed_fields(config: Any) -> dict[str, Any]:
    """The fields of a configuration (a dataclass instance) that its results depend on."""
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.metadata.get("hashed", True)
    }


def config_hash(config: Any) -> str:
    """First eight hexadecimal digits of the SHA-256 of the configuration's hashed fields; the same on every machine."""
    text = json.dumps(hashed_fields(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
