"""The configuration as it is in force, for people."""

from typing import Any

import yaml
from pydantic import BaseModel, ByteSize

from streamer.config.options import Config
from streamer.config.values import show_size


def effective(config: Config) -> str:
    """The configuration as it is in force, as YAML; secrets show as asterisks."""
    shown = _shown(config, config.model_dump(mode="json", by_alias=True))
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)


def _shown(value: Any, as_json: Any) -> Any:
    """What a person writes: sizes with their unit, `type` first."""
    if isinstance(value, ByteSize):
        return show_size(value)
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        value = {field.alias or name: getattr(value, name) for name, field in fields.items()}
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key != "type")
        return {key: _shown(value[key], as_json[key]) for key in keys}
    return as_json
