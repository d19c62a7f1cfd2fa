"""The OpenAPI 3.0 document, made from the routes.

Invariant: each route of a generation is one operation; schemas come from the very types that check requests and
make answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from types import UnionType
from typing import Any, Final, get_args, get_origin

import msgspec

from trio_broker.api import bodies
from trio_broker.api.failures import (
    API_KEY_NOT_ALLOW,
    BAD_API_KEY,
    BAD_REQUEST,
    BAD_TOKEN,
    BODY_TIMEOUT,
    BODY_TOO_LARGE,
    INTERNAL_ERROR,
    MALFORMED_JSON,
    NO_CREDENTIALS,
    NOT_JSON,
    ROLE_TOO_WEAK,
    TOKEN_TIME_OUT,
    UNAVAILABLE,
    USER_TOO_WEAK,
    Failure,
)
from trio_broker.api.routes import ADMINISTRATORS, EVERYBODY, PUBLISHERS, VIEWERS, Documented, Route
from trio_broker.api.validation import list_fields

JSON: Final = "application/json"
REFERENCE: Final = "#/components/schemas/"

_ACCESS: Final = {
    EVERYBODY: "No credentials are needed.",
    VIEWERS: "For administrators and viewers.",
    PUBLISHERS: "For administrators and publishers.",
    ADMINISTRATORS: "For administrators.",
}


class Error(msgspec.Struct):
    """The body of most failures."""

    code: str
    message: str


def document(routes: Sequence[Route], base_path: str, *, version: str) -> dict[str, Any]:
    """The whole document, as plain JSON values."""
    types = [Error, *(wanted for route in routes for wanted in _types_of(route))]
    by_name = _Schemas(types)
    paths: dict[str, dict[str, Any]] = {}
    names = Counter(route.handler.__name__ for route in routes)
    for route in routes:
        path = re.sub(r":([a-z_]+)", r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, by_name)
        if names[route.handler.__name__] > 1:
            # Two resources call theirs the same.
            module = route.handler.__module__.rpartition(".")[2]
            paths[path][route.method.lower()]["operationId"] = f"{module}_{route.handler.__name__}"
    return {
        "openapi": "3.0.0",
        "info": {"title": "trio-broker API", "version": version},
        "servers": [{"url": base_path}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": by_name.components,
            "securitySchemes": {
                "basicAuth": {"type": "http", "scheme": "basic", "description": "API key and secret"},
                "bearerAuth": {"type": "http", "scheme": "bearer", "description": "Token of POST /login"},
            },
        },
    }


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
        if isinstance(wanted, UnionType):
            return {"anyOf": [self.of(part) for part in get_args(wanted)]}
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
    if isinstance(wanted, UnionType) or get_origin(wanted) is list:
        return [leaf for part in get_args(wanted) for leaf in _leaves(part)]
    return [wanted]


def _types_of(route: Route) -> list[Any]:
    answers = [answer.body for answer in route.answers]
    body = None if bodies.is_special(route.body) else route.body
    return [wanted for wanted in (route.query, body, route.result, *answers) if wanted is not None]


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "tags": [route.tag],
        "summary": route.summary,
        "description": _ACCESS[route.access] + (" No API key will do." if route.tokens_only else ""),
        "parameters": _parameters(route, schemas),
        "responses": _responses(route, schemas),
        "security": _security(route),
    }
    if route.body is not None:
        special = bodies.is_special(route.body)
        content = bodies.described(route.body) if special else {JSON: {"schema": schemas.of(route.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.access == EVERYBODY:
        return []
    return [{"bearerAuth": []}] if route.tokens_only else [{"basicAuth": []}, {"bearerAuth": []}]


def _parameters(route: Route, schemas: _Schemas) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.path_names
    ]
    if route.query is None:
        return parameters
    properties, required = schemas.properties(route.query)
    repeated = list_fields(route.query)
    for name, schema in properties.items():
        schema = dict(schema)
        parameter = {"name": name, "in": "query", "required": name in required, "schema": schema}
        if "description" in schema:
            parameter["description"] = schema.pop("description")
        if name in repeated:
            parameter |= {"style": "form", "explode": True}
        parameters.append(parameter)
    return parameters


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    if route.result is not None:
        responses["200"] = {"description": "Success", "content": {JSON: {"schema": schemas.of(route.result)}}}
    elif not any(200 <= answer.status < 300 for answer in route.answers):
        responses["204"] = {"description": "Done"}
    for status, failures in _by_status(_failures_of(route)).items():
        responses[str(status)] = {
            "description": "; ".join(f"`{failure.code}`: {failure.message}" for failure in failures),
            "content": {JSON: {"schema": schemas.of(Error)}},
        }
    for answer in route.answers:
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


def _failures_of(route: Route) -> list[Failure]:
    failures = list(route.failures)
    if route.query is not None or route.body is not None or route.path_names:
        failures.insert(0, BAD_REQUEST)
    if route.body is not None:
        failures += [BODY_TIMEOUT, BODY_TOO_LARGE]
        failures += [bodies.failure_of(route.body)] if bodies.is_special(route.body) else [MALFORMED_JSON, NOT_JSON]
    if route.access != EVERYBODY:
        keys = [API_KEY_NOT_ALLOW] if route.tokens_only else [BAD_API_KEY]
        failures += [NO_CREDENTIALS, *keys, BAD_TOKEN, TOKEN_TIME_OUT]
        failures += [USER_TOO_WEAK] if route.tokens_only else [ROLE_TOO_WEAK, USER_TOO_WEAK]
        failures += [INTERNAL_ERROR, UNAVAILABLE]
    return failures


def _by_status(failures: Sequence[Failure]) -> dict[int, list[Failure]]:
    found: dict[int, list[Failure]] = {}
    for failure in failures:
        found.setdefault(failure.status, []).append(failure)
    return found


def _as_3_0(schema: Any) -> Any:
    """JSON Schema 2020-12, as msgspec writes it, in the dialect of OpenAPI 3.0: `nullable`, no tuples, no null type."""
    if isinstance(schema, list):
        return [_as_3_0(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _as_3_0(value) for key, value in schema.items()}
    if isinstance(changed.get("anyOf"), list):
        parts = [part for part in changed["anyOf"] if part != {"type": "null"}]
        if len(parts) < len(changed["anyOf"]):
            changed["nullable"] = True
        if len(parts) == 1 and "$ref" not in parts[0]:
            del changed["anyOf"]
            changed |= parts[0]
        else:
            changed["anyOf"] = parts
    if "prefixItems" in changed:
        changed["items"] = {"anyOf": changed.pop("prefixItems")}
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
