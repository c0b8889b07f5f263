"""Which replica reads which source."""

import hashlib
import re
import socket
from collections.abc import Callable

from streamer.config.options import Config, ShardOptions, SourceOptions
from streamer.errors import ConfigError


def owner(source: str, count: int) -> int:
    """The replica of `count` that reads a source: the one whose name and the source's make the highest number together, so that another
    replica takes its share from all others, and moves nothing between them."""
    return max(range(count), key=lambda index: hashlib.sha256(f"{index} {source}".encode()).digest())


def index_of(shard: ShardOptions, host: str) -> int:
    """ConfigError where it cannot be told, or lies beyond the count."""
    if shard.index == "auto":
        ordinal = re.search(r"-(\d{1,9})$", host)
        if ordinal is None:
            raise ConfigError(
                f"shard.index: auto takes the number at the end of the host's name, and {host} has none; "
                "set STREAMER_SHARD__INDEX, or run it as a StatefulSet"
            )
        index = int(ordinal[1])
    else:
        index = shard.index
    if index >= shard.count:
        raise ConfigError(
            f"shard: replica {index} is beyond shard.count {shard.count}, indexes begin with 0; raise count, or stop this replica"
        )
    return index


def own_sources(config: Config, host: Callable[[], str] = socket.gethostname) -> dict[str, SourceOptions]:
    """Those that this replica reads; without `shard` all of them. ConfigError where this replica is not known."""
    if config.shard is None:
        return dict(config.sources)
    index, count = index_of(config.shard, host()), config.shard.count
    return {name: options for name, options in config.sources.items() if owner(name, count) == index}


def replica_of(config: Config, host: Callable[[], str] = socket.gethostname) -> str:
    """What tells this replica from the others; empty where it is the only one."""
    if config.shard is None or config.shard.count == 1:
        return ""
    return str(index_of(config.shard, host()))
