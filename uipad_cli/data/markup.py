"""JSON and YAML of strangers → plain values: numbers that are finite and can be written, no references."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

import yaml

YAML_CAP = 64 * 1024  # bytes of a file, on which half a second is spent
_DIGITS = 4000  # of a whole number: with some more, Python does not write it


def parse_json(text: str) -> Any:
    """JSON value. Raises ValueError for what is not JSON, or not finite, also as a float; RecursionError."""
    return json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)


def parse_yaml(text: bytes | str) -> Any:
    """YAML value, in which no reference stands for what would not fit into memory. Raises ValueError."""
    try:
        return yaml.load(text, Loader=_Plain)
    except ValueError:
        raise
    except (yaml.YAMLError, TypeError, AttributeError, LookupError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error  # all that a damaged or hostile file has been seen to raise


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not allowed")


def _finite(digits: str) -> float:
    value = float(digits)
    if not isfinite(value):
        _refuse(f"the number {digits[:20]}...")
    return value


def _whole(digits: str) -> int:
    _finite(digits)
    return int(digits)


class _Plain(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("references (*name) are not used here")
        return super().compose_node(parent, index)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > _DIGITS:
            raise ValueError(f"a number of {len(node.value)} digits is not allowed")
        return int(super().construct_yaml_int(node))


_Plain.add_constructor("tag:yaml.org,2002:int", _Plain.construct_yaml_int)
