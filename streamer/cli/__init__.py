"""The command line: verbs and their exit codes."""

from streamer.cli.main import main

__all__ = ["main"]
