"""Types for the API of what comes in several kinds: an object of which a key or two say what the rest is.

Invariant: the configuration checks what is in such an object; here it is only described for the API document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import attrs
import msgspec
from msgspec import Meta

from trio_broker.api.config_types import struct_of


def variants_type(classes: Mapping[str, type[attrs.AttrsInstance]], doc: str, **more: Any) -> Any:
    """The type of an object that is one of these; `more` are properties that all of them have beside their own."""
    kinds = [_described(cls, name, more) for name, cls in classes.items()]
    return Annotated[dict[str, Any], Meta(description=doc, extra_json_schema={"anyOf": kinds})]


def _described(cls: type[attrs.AttrsInstance], name: str, more: Mapping[str, Any]) -> dict[str, Any]:
    struct = struct_of(cls, cls.__name__.removesuffix("Config"))
    (schema,), components = msgspec.json.schema_components([struct])
    described: dict[str, Any] = _inlined(schema, components)
    described["title"] = name
    described["properties"] = {**more, **described["properties"]}
    return described


def _inlined(schema: Any, components: Mapping[str, Any]) -> Any:
    """Without references: each kind stands for itself."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(components[schema["$ref"].rpartition("/")[2]], components)
        return {key: _inlined(value, components) for key, value in schema.items() if key != "default"}
    return [_inlined(one, components) for one in schema] if isinstance(schema, list) else schema
