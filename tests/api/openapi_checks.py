"""What holds for the OpenAPI document of every generation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

SCHEMA_KEYS = {
    *("$ref", "title", "type", "properties", "required", "additionalProperties", "items", "enum", "anyOf", "nullable"),
    *("minimum", "maximum", "minItems", "maxItems", "default", "description", "minLength", "maxLength", "pattern"),
    *("format", "exclusiveMinimum", "exclusiveMaximum", "discriminator", "minProperties", "maxProperties", "example"),
}
TYPES = {"object", "array", "string", "integer", "number", "boolean"}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def schemas(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every schema of the document, those within others too."""
    found: list[dict[str, Any]] = list(document["components"]["schemas"].values())
    for _, _, operation in operations(document):
        found += [parameter["schema"] for parameter in operation["parameters"]]
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        found += [media["schema"] for content in contents for media in content.get("content", {}).values()]
    while found:
        schema = found.pop()
        yield schema
        found += [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
        found += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]


def template_of(path: str) -> str:
    """The path of a route as it stands in the document."""
    return "/".join(f"{{{part[1:]}}}" if part.startswith(":") else part for part in path.split("/"))


def operations_are_well_formed(document: dict[str, Any]) -> None:
    identifiers = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(identifiers)) == len(identifiers)
    tags = {tag["name"] for tag in document["tags"]}
    for path, method, operation in operations(document):
        assert method in {"get", "post", "put", "delete"}
        assert set(operation["tags"]) <= tags
        assert operation["summary"], path
        names = [(parameter["in"], parameter["name"]) for parameter in operation["parameters"]]
        assert len(set(names)) == len(names)
        in_path = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
        assert in_path == re.findall(r"{(.*?)}", path)
        assert all(parameter["required"] for parameter in operation["parameters"] if parameter["in"] == "path")
        assert all(re.fullmatch(r"[1-5]\d\d", status) for status in operation["responses"])
        assert any(status.startswith("2") for status in operation["responses"])
        assert all(response["description"] for response in operation["responses"].values())
        known = document["components"]["securitySchemes"]
        assert all(name in known for one in operation["security"] for name in one)


def schemas_are_of_openapi_3_0(document: dict[str, Any]) -> None:
    components = document["components"]["schemas"]
    for schema in schemas(document):
        assert set(schema) <= SCHEMA_KEYS, schema
        if "$ref" in schema:
            assert schema["$ref"].removeprefix("#/components/schemas/") in components
        if "type" in schema:
            assert schema["type"] in TYPES
            assert schema["type"] != "array" or "items" in schema
        assert schema.get("required") != []
        assert schema.get("anyOf") != []
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in components), list(components)


def agrees(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> bool:
    """Whether `value` is what `schema` allows; no key may be there that is not documented."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if value is None:
        return bool(schema.get("nullable"))
    if "anyOf" in schema:
        return any(agrees(value, part, document) for part in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    match schema.get("type"):
        case "object":
            extra = schema.get("additionalProperties", "properties" not in schema)
            return (
                isinstance(value, dict)
                and set(schema.get("required", [])) <= set(value)
                and all(
                    agrees(part, schema["properties"][key], document)
                    if key in schema.get("properties", {})
                    else agrees(part, extra, document)
                    if isinstance(extra, dict)
                    else extra
                    for key, part in value.items()
                )
            )
        case "array":
            return isinstance(value, list) and all(agrees(part, schema["items"], document) for part in value)
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float)
        case "boolean":
            return isinstance(value, bool)
    return True
