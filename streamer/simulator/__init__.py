"""A faithful stand-in for the upstream API: for the demo, for our tests, for users' own pipelines."""

from streamer.simulator.company import DEFAULT_KEY
from streamer.simulator.faults import FAULTS, Setting
from streamer.simulator.options import SimulatorOptions
from streamer.simulator.server import Simulator, serve

__all__ = ["DEFAULT_KEY", "FAULTS", "Setting", "Simulator", "SimulatorOptions", "serve"]
