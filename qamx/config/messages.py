"""Messages for validation errors of pydantic: file, key, value found, value to write."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, PydanticUndefined

from qamx.config.fields import Allowed
from qamx.errors import UserError, suggestion
from qamx.registry import Registry

Key = tuple[str, ...]


@dataclass(frozen=True)
class ConfigProblem:
    """One mistake: its file (or option), its dotted key, and the remedy."""

    origin: str
    key: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.origin, self.key, self.text) if part)


class ConfigError(UserError):
    """All problems of an experiment, one line each."""

    def __init__(self, problems: list[ConfigProblem]):
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True)
class FieldError:
    """A mistake inside a table, before the file of the table is known."""

    key: Key
    text: str
    missing: bool = False


@dataclass(frozen=True)
class RegistryChoice:
    """Marks a field whose table is validated by the settings of a registered name."""

    registry: Registry
    selector: str

    def find(self, table: Mapping[str, Any]) -> type[BaseModel] | None:
        """The model that the table's selector names, or None."""
        name = table.get(self.selector)
        if isinstance(name, str) and name in self.registry:
            return self.registry[name].load_settings()
        return None

    def model_for(self, table: Mapping[str, Any]) -> type[BaseModel]:
        """The model that the table's selector names.

        **Raises:** `ValidationError` at the selector if there is none of that name.
        """
        model = self.find(table)
        if model is None:
            text = choice_text(self.registry, table.get(self.selector))
            detail = InitErrorDetails(type=value_problem(text), loc=(self.selector,), input=table)
            raise ValidationError.from_exception_data(self.registry.kind, [detail])
        return model


def value_problem(text: str) -> PydanticCustomError:
    """An error for a validator to raise; its text is shown unchanged."""
    return PydanticCustomError("problem", "{text}", {"text": text})


def choice_text(registry: Registry, name: object) -> str:
    """The reason why `name` selects nothing in a registry."""
    if isinstance(name, str):
        return registry.unknown(name)
    found = "missing" if name is None else f"found {show(name)} ({_kind_of(name)})"
    return f"{found}; known: {', '.join(registry.names())}"


def field_errors(
    error: ValidationError, model: type[BaseModel], table: Mapping[str, Any]
) -> list[FieldError]:
    """The mistakes in a table that its model rejected, one for each key."""
    errors = [_field_error(details, model, table) for details in error.errors()]
    return list({error.key: error for error in reversed(errors)}.values())[::-1]


def show(value: object) -> str:
    """A value as it would be written in a file."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _field_error(
    details: ErrorDetails, root: type[BaseModel], table: Mapping[str, Any]
) -> FieldError:
    key: Key = ()
    model: type[BaseModel] | None = root
    field: FieldInfo | None = None
    value: object = table
    for part in details["loc"]:
        if isinstance(part, int) and isinstance(value, list) and isinstance(value[part], Mapping):
            key, value = (*key, str(part + 1)), value[part]
            continue
        if not isinstance(value, Mapping):
            break
        if field is not None:
            model = _model_of(field, value)
        name = str(part)
        key = (*key, name)
        field = model.model_fields.get(name) if model else None
        value = value.get(name)
    return _describe(details, key, model, field, value)


def _describe(
    details: ErrorDetails,
    key: Key,
    model: type[BaseModel] | None,
    field: FieldInfo | None,
    value: object,
) -> FieldError:
    kind = details["type"]
    if kind == "extra_forbidden" and model is not None:
        noun = "table" if isinstance(value, Mapping) else "key"
        return FieldError(key, f"unknown {noun}; {suggestion(key[-1], model.model_fields)}")
    if field is None or kind in ("problem", "value_error", "assertion_error"):
        return FieldError(key, details["msg"].removeprefix("Value error, "))
    if kind == "missing":
        return FieldError(key, "; ".join(filter(None, ("missing", _expected(field)))), missing=True)
    options = _options(field)
    if options and isinstance(value, str):
        return FieldError(key, f"found {show(value)}; {suggestion(value, options)}")
    kind_of_value = f" ({_kind_of(value)})" if kind.endswith("_type") or options else ""
    wanted = _expected(field) or details["msg"]
    return FieldError(key, f"found {show(value)}{kind_of_value}; {wanted}")


def _model_of(field: FieldInfo, value: Mapping[str, Any]) -> type[BaseModel] | None:
    for annotation in field.metadata:
        if isinstance(annotation, RegistryChoice):
            return annotation.find(value)
    types: tuple[Any, ...] = (field.annotation, *get_args(field.annotation))
    return next((t for t in types if isinstance(t, type) and issubclass(t, BaseModel)), None)


def _expected(field: FieldInfo) -> str:
    options = _options(field)
    if options:
        return "known: " + ", ".join(sorted(options))
    parts = [allowed.text for allowed in _allowed(field.metadata, field.annotation)][:1]
    example = _example(field)
    if example is not None:
        parts.append(f"e.g. {show(example)}")
    return f"write {', '.join(parts)}" if parts else ""


def _options(field: FieldInfo) -> tuple[str, ...]:
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def _allowed(metadata: Any, annotation: Any) -> Iterator[Allowed]:
    """The descriptions of a type's values, also of the type inside `Annotated[...] | None`."""
    yield from (item for item in metadata if isinstance(item, Allowed))
    for part in get_args(annotation):
        yield from _allowed(getattr(part, "__metadata__", ()), None)


def _example(field: FieldInfo) -> object:
    if field.default is not None and field.default is not PydanticUndefined:
        return field.default
    return field.examples[0] if field.examples else None


def _kind_of(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    kinds = {str: "a string", int: "an integer", float: "a number", list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date")
