"""The OpenAPI 3.0 document, made from the routes.

Invariant: each route of a generation is one operation; schemas come from the very types that check requests and
make answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

import msgspec

from trio_broker.api import bodies
from trio_broker.api.dialect import Dialect
from trio_broker.api.failures import Failure
from trio_broker.api.routes import Documented, Route
from trio_broker.api.validation import list_fields

JSON: Final = "application/json"
REFERENCE: Final = "#/components/schemas/"

_UNIONS: Final = (Union, UnionType)
_NULL: Final = {"nullable": True}


def document(routes: Sequence[Route], base_path: str, dialect: Dialect, *, version: str) -> dict[str, Any]:
    """The whole document, as plain JSON values."""
    types = [dialect.error, *(wanted for route in routes for wanted in _types_of(route, dialect))]
    by_name = _Schemas(types)
    paths: dict[str, dict[str, Any]] = {}
    for identifier, route in zip(_identifiers(routes), routes, strict=True):
        path = re.sub(r":([a-z_]+)", r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(identifier, route, dialect, by_name)
    return {
        "openapi": "3.0.0",
        "info": {"title": dialect.title, "version": version},
        "servers": [{"url": base_path}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {"schemas": by_name.components, "securitySchemes": dialect.schemes},
    }


def _identifiers(routes: Sequence[Route]) -> list[str]:
    """The handler's name; with its module's where two are called the same, with the path where one has several."""
    names = Counter(route.handler.__name__ for route in routes)
    found = [
        name if names[name] == 1 else f"{route.handler.__module__.rpartition('.')[2]}_{name}"
        for route in routes
        for name in [route.handler.__name__]
    ]
    several = Counter(found)
    return [
        name if several[name] == 1 else name + re.sub(r"\W+", "_", route.path)
        for name, route in zip(found, routes, strict=True)
    ]


class _Schemas:
    """The schemas of all types: `of(type)` gives one, mostly as a reference into `components`."""

    def __init__(self, types: Sequence[Any]) -> None:
        unique: list[Any] = []
        for leaf in (leaf for wanted in types for leaf in _leaves(wanted)):
            if leaf not in unique:
                unique.append(leaf)
        schemas, components = msgspec.json.schema_components(unique, ref_template=REFERENCE + "{name}")
        self._types = unique
        self._schemas = [_as_3_0(schema) for schema in schemas]
        self.components: dict[str, Any] = {name: _as_3_0(schema) for name, schema in components.items()}

    def of(self, wanted: Any) -> dict[str, Any]:
        # msgspec knows no unions of Structs: what holds them is written here.
        if parts := _parts(wanted):
            return {"anyOf": [self.of(part) for part in parts]}
        if get_origin(wanted) is list:
            return {"type": "array", "items": self.of(get_args(wanted)[0])}
        schema: dict[str, Any] = self._schemas[self._types.index(wanted)]
        return schema

    def properties(self, wanted: Any) -> tuple[dict[str, Any], set[str]]:
        """The properties of a Struct, and which of them must be there."""
        component = self.components[self.of(wanted)["$ref"].removeprefix(REFERENCE)]
        return component["properties"], set(component.get("required", ()))


def _leaves(wanted: Any) -> list[Any]:
    """The types within unions and lists, for which msgspec is asked."""
    parts = get_args(wanted) if get_origin(wanted) is list else _parts(wanted)
    return [leaf for part in parts for leaf in _leaves(part)] if parts else [wanted]


def _parts(wanted: Any) -> tuple[Any, ...]:
    """Of a union; `Data[A | B]` is taken for `Data[A] | Data[B]`. Empty for anything else."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in _UNIONS:
        return arguments
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct) and get_origin(arguments[0]) in _UNIONS:
        return tuple(origin[part] for part in get_args(arguments[0]))  # type: ignore[index]
    return ()


def _types_of(route: Route, dialect: Dialect) -> list[Any]:
    answers = [answer.body for answer in route.answers]
    body = dialect.body(route)
    if bodies.is_special(body):
        body = None
    return [wanted for wanted in (dialect.query(route), body, route.result, *answers) if wanted is not None]


def _operation(identifier: str, route: Route, dialect: Dialect, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": identifier,
        "tags": [route.tag],
        "summary": route.summary,
        "description": dialect.description(route),
        "parameters": _parameters(route, dialect.query(route), schemas),
        "responses": _responses(route, dialect, schemas),
        "security": dialect.security(route),
    }
    body = dialect.body(route)
    if body is not None:
        content = bodies.described(body) if bodies.is_special(body) else {JSON: {"schema": schemas.of(body)}}
        operation["requestBody"] = {"required": dialect.needs_body(route), "content": content}
    return operation


def _parameters(route: Route, query: Any, schemas: _Schemas) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.path_names
    ]
    if query is None:
        return parameters
    properties, required = schemas.properties(query)
    repeated = list_fields(query)
    for name, schema in properties.items():
        schema = dict(schema)
        parameter = {"name": name, "in": "query", "required": name in required, "schema": schema}
        if "description" in schema:
            parameter["description"] = schema.pop("description")
        if name in repeated:
            parameter |= {"style": "form", "explode": True}
        parameters.append(parameter)
    return parameters


def _responses(route: Route, dialect: Dialect, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    if route.result is not None:
        responses["200"] = {"description": "Success", "content": {JSON: {"schema": schemas.of(route.result)}}}
    elif not any(200 <= answer.status < 300 for answer in route.answers):
        responses["204"] = {"description": "Done"}
    failed = [Documented(status, said, dialect.error) for status, said in _by_status(dialect.failures(route)).items()]
    for answer in (*failed, *dialect.answers(route), *route.answers):
        _add(responses.setdefault(str(answer.status), {"description": ""}), answer, schemas)
    return dict(sorted(responses.items()))


def _add(response: dict[str, Any], answer: Documented, schemas: _Schemas) -> None:
    """One more form of what is answered with this status."""
    described = response["description"]
    if not described or described == "Success":
        response["description"] = answer.description
    elif answer.description not in described:
        response["description"] = f"{described}; {answer.description}"
    content = response.setdefault("content", {})
    if answer.content_type != JSON:
        content[answer.content_type] = {"schema": _not_json(answer.content_type)}
    elif answer.body is not None:
        schema = schemas.of(answer.body)
        content[JSON] = {"schema": {"anyOf": [content[JSON]["schema"], schema]} if JSON in content else schema}
    if not content:
        del response["content"]


def _not_json(content_type: str) -> dict[str, Any]:
    return {"type": "string"} if content_type.startswith("text/") else {"type": "string", "format": "binary"}


def _by_status(failures: Sequence[Failure]) -> dict[int, str]:
    """What each status may mean, each failure once."""
    found: dict[int, list[str]] = {}
    for failure in failures:
        said = f"`{failure.code}`: {failure.message}" if failure.message else f"`{failure.code}`"
        texts = found.setdefault(failure.status, ["`0`: success"] if failure.status == 200 else [])
        if said not in texts:
            texts.append(said)
    return {status: "; ".join(texts) for status, texts in found.items()}


def _as_3_0(schema: Any) -> Any:
    """JSON Schema 2020-12, as msgspec writes it, in the dialect of OpenAPI 3.0: `nullable`, no tuples, no null type."""
    if isinstance(schema, list):
        return [_as_3_0(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "null":
        return _NULL
    changed = {key: _as_3_0(value) for key, value in schema.items()}
    if isinstance(changed.get("anyOf"), list):
        parts = [part for part in changed["anyOf"] if part != _NULL]
        if len(parts) < len(changed["anyOf"]):
            changed["nullable"] = True
        if len(parts) == 1 and "$ref" not in parts[0]:
            del changed["anyOf"]
            changed |= parts[0]
        else:
            changed["anyOf"] = parts
    if "prefixItems" in changed:
        changed["items"] = {"anyOf": changed.pop("prefixItems")}
    if changed.get("type") == "array":
        changed.setdefault("items", {})
    for bound in ("Minimum", "Maximum"):
        if not isinstance(changed.get(f"exclusive{bound}", True), bool):
            changed[bound.lower()], changed[f"exclusive{bound}"] = changed[f"exclusive{bound}"], True
    if "const" in changed:
        changed["enum"] = [changed.pop("const")]
    changed.pop("propertyNames", None)
    if changed.get("required") == []:
        del changed["required"]
    if changed.get("default", "") is None:
        del changed["default"]
    return changed
