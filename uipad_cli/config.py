"""YAML files + `--set a.b=c` → the pydantic model that is asked for; every fault names file, line, key and cure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from uipad_cli.errors import UsageError

MAXIMUM_BYTES = 1 << 17  # on which a second is spent
_SHOWN = 200  # letters of a value in a message

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Configuration:
    """Nested values, and for every dotted key where it came from (`file:line` or `--set`)."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)


def merge(
    files: Sequence[Path], settings: Sequence[str], flags: Mapping[str, object | None] | None = None
) -> Configuration:
    """Later files win over earlier ones, `key=value` settings over files, given flags (not None) over both.

    Raises UsageError naming file and line.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for path in files:
        _overlay(values, _read(path, origins))
    for setting in settings:
        key, separator, text = setting.partition("=")
        key = key.strip()
        if not separator or not key:
            raise UsageError(f"--set {setting!r} is not of the form key=value", "write for example --set seed=1")
        value, _ = _parse(text, f"--set {key}")
        for part in reversed(key.split(".")):
            value = {part: value}
        _overlay(values, value)
        origins[key] = f"--set {setting}"
    for key, value in (flags or {}).items():
        if value is not None:
            values[key], origins[key] = value, f"--{key}"
    return Configuration(values, origins)


def build(model: type[Model], configuration: Configuration, prefix: str = "") -> Model:
    """Validate the values below `prefix` (dotted, "" = all) as `model`. Raises UsageError for the first fault."""
    values: Any = configuration.values
    for part in filter(None, prefix.split(".")):
        values = values.get(part, {})
    if values is None:
        values = {}
    if not isinstance(values, dict):
        told = repr(values)[:_SHOWN]
        raise UsageError(f"{_where(prefix, configuration)}: {prefix} must be a table of keys, not {told}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
    place = [str(part) for part in fault["loc"]]
    key = ".".join(filter(None, [prefix, *place]))
    where = _where(key, configuration)
    if fault["type"] == "extra_forbidden":
        known = _keys(model, place[:-1])
        near = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.5)
        cure = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        raise UsageError(f"{where}: unknown key {key[:_SHOWN]!r}", cure)
    told = repr(fault["input"])[:_SHOWN]
    raise UsageError(f"{where}: {key[:_SHOWN]} = {told}: {fault['msg'][:_SHOWN]}", "correct the value")


def _where(key: str, configuration: Configuration) -> str:
    """Origin of a key, or of the nearest key above or below it."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        origin = configuration.origins.get(".".join(parts[:length]))
        if origin:
            return origin
    return "configuration"


def _keys(model: type[BaseModel], place: Sequence[str]) -> list[str]:
    """Field names of the model that sits at `place` below `model`."""
    for name in place:
        annotation = model.model_fields[name].annotation if name in model.model_fields else None
        nested = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        models = [kind for kind in nested if issubclass(kind, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)


def _overlay(base: dict[str, Any], upper: Mapping[str, Any]) -> None:
    for key, value in upper.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _overlay(base[key], value)
        else:
            base[key] = value


def _read(path: Path, origins: dict[str, str]) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():  # nobody may fill a pipe
            raise UsageError(f"{path}: a folder or a special file, not a file", "check the path")
        if path.stat().st_size > MAXIMUM_BYTES:
            raise UsageError(f"{path}: larger than {MAXIMUM_BYTES >> 10} KiB", "a configuration is a short YAML file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a configuration ({error})", "check the path") from error
    values, node = _parse(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path}: is not a table of `key: value` lines", "see configs/ for examples")
    _note_lines(node, str(path), "", origins)
    return values


def _parse(text: str, origin: str) -> tuple[Any, yaml.Node | None]:
    """The value, and the node that knows its lines."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else loader.construct_document(node), node
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{origin}{line}: {error.problem}", "correct the YAML") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(f"{origin}: not valid YAML ({type(error).__name__})", "correct the YAML") from error


def _note_lines(node: yaml.Node | None, path: str, prefix: str, origins: dict[str, str]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            origins[name] = f"{path}:{key.start_mark.line + 1}"
            _note_lines(value, path, f"{name}.", origins)


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: 1e-3 is a number, on/no are words, 010 is ten, a key stands once, no references."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "references (*name) are not used here", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node), base=10)


_REPLACED = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "timestamp")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false|True|False)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|nan)$"),
    list("-+0123456789."),
)
_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)
