"""What a daemon imports as it goes, imported before it is forked."""

from contextlib import suppress

import streamer.app
import streamer.cli.daemon
import streamer.cli.progress
import streamer.sinks.archive
import streamer.sinks.archive.sink
import streamer.sinks.file
import streamer.sinks.kafka
import streamer.sinks.kafka.sink
import streamer.sinks.webhook
import streamer.sources.openai_api
import streamer.sources.openai_directory  # noqa: F401
from streamer.config import config_model
from streamer.sinks import sink_options
from streamer.sources import source_options

with suppress(ImportError):
    import uvloop  # noqa: F401 - where the extra `speed` is installed

SINKS = sink_options()
for names in (("file",), ("archive", "file"), ("archive", "file", "webhook"), ("archive", "file", "kafka", "webhook")):
    config_model(source_options(), {name: SINKS[name] for name in names})
