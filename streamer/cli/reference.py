"""What every key of the configuration means, read from the docstrings beside the fields; for the JSON Schema and the documentation.

Reading sources takes a moment, so nothing but the verb `schema` imports this.
"""

import ast
import inspect
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from streamer.config import config_model
from streamer.sinks import sink_options
from streamer.sources import source_options


@cache
def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Field to its docstring, in one line; without the fields that have none."""
    found: dict[str, str] = {}
    for part in reversed(model.__mro__):
        if part.__module__.startswith("streamer."):
            found |= _docstrings(part)
    return found


def _docstrings(cls: type) -> dict[str, str]:
    try:
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls))).body[0]
    except OSError:  # made at run time
        return {}
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            value = text.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[field.target.id] = " ".join(value.value.split())
    return found


class _Described(GenerateJsonSchema):
    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        cls: type[BaseModel] = schema["cls"]
        for name, text in meanings(cls).items():
            key = cls.model_fields[name].alias or name if name in cls.model_fields else name
            if key in made.get("properties", {}):
                made["properties"][key]["description"] = text
        return made


def configuration_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration file, every key with its meaning."""
    schema = config_model(source_options(), sink_options()).model_json_schema(schema_generator=_Described)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}
