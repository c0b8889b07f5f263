"""`python -m streamer.simulator --events 500 --fault late:probability=0.1`: the options of SimulatorOptions as flags."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from streamer.errors import ConfigError
from streamer.simulator.options import SimulatorOptions
from streamer.simulator.server import serve

REPEATED = {"api_keys": "--api-key", "scopes": "--scope", "faults": "--fault"}


def flag_of(option: str) -> str:
    return REPEATED.get(option, "--" + option.replace("_", "-"))


def complaints(error: ValidationError) -> Iterator[str]:
    """A sentence for each option that cannot be."""
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        yield f"{flag_of(str(problem['loc'][0]))}: {message[:1].lower() + message[1:]}"


def parse(arguments: list[str], program: str = "python -m streamer.simulator") -> SimulatorOptions:
    """Raises pydantic's ValidationError."""
    parser = argparse.ArgumentParser(prog=program, description="A stand-in for the API.")
    for name, field in SimulatorOptions.model_fields.items():
        shape: dict[str, Any] = {}
        if name in REPEATED:
            shape = {"action": "append"}
        elif field.annotation is bool:
            shape = {"action": "store_true", "default": None}
        parser.add_argument(flag_of(name), dest=name, help=field.description, **shape)
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    return SimulatorOptions.model_validate(given)


if __name__ == "__main__":
    try:
        options = parse(sys.argv[1:])
    except ValidationError as error:
        for sentence in complaints(error):
            sys.stderr.write(f"{sentence}\n")
        sys.exit(2)
    try:
        serve(options)
    except ConfigError as error:
        sys.exit(str(error))
