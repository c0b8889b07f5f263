"""`python -m streamer.simulator --events 500 --fault late:probability=0.1`: the options of SimulatorOptions as flags."""

import argparse
import sys
from typing import Any

from pydantic import ValidationError

from streamer.errors import ConfigError
from streamer.simulator.options import SimulatorOptions
from streamer.simulator.server import serve

REPEATED = {"api_keys": "--api-key", "scopes": "--scope", "faults": "--fault"}


def parse(arguments: list[str]) -> SimulatorOptions:
    """Raises pydantic's ValidationError."""
    parser = argparse.ArgumentParser(prog="python -m streamer.simulator", description="A stand-in for the API.")
    for name, field in SimulatorOptions.model_fields.items():
        flag = REPEATED.get(name, "--" + name.replace("_", "-"))
        shape: dict[str, Any] = {}
        if name in REPEATED:
            shape = {"action": "append"}
        elif field.annotation is bool:
            shape = {"action": "store_true", "default": None}
        parser.add_argument(flag, dest=name, help=field.description, **shape)
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    return SimulatorOptions.model_validate(given)


if __name__ == "__main__":
    try:
        options = parse(sys.argv[1:])
    except ValidationError as error:
        for problem in error.errors():
            sys.stderr.write(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}\n")
        sys.exit(2)
    try:
        serve(options)
    except ConfigError as error:
        sys.exit(str(error))
