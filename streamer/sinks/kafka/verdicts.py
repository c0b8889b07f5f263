"""Kafka's error codes and the client's exceptions, each to its verdict."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiokafka.errors import (
    AuthenticationFailedError,
    BrokerResponseError,
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    for_code,
)

from streamer.errors import ConfigError, RetryableError, StreamerError

UNKNOWN_TOPIC = 3
FENCED = frozenset({47, 90})
"""A newer producer has our transactional id, or the coordinator gave our transaction up."""
LOST_PRODUCER = frozenset({45, 48, 49, 59}) | FENCED
"""The broker does not know our producer id, or numbers that do not follow: a new id begins anew."""
REFUSED_RECORDS = frozenset({10, 18, 87})
"""Too large, too many, or not valid: some record of the chunk is to blame, and no other will help."""
NOT_YET = frozenset({14, 15, 51, 88})
"""A coordinator that loads, is being made, or still ends the transaction before: over in milliseconds."""

_WE_ARE_WRONG = {
    17: "topic {topic} has a name that it does not take; mend topic",
    29: "we may not write to topic {topic}; grant WRITE and DESCRIBE on it, for exactly_once READ too",
    30: "we may not keep our position in group {id}; grant READ on it",
    31: "we may not produce; grant IDEMPOTENT_WRITE on the cluster",
    32: "it takes no record with the time of our clock; set the clock",
    33: "it does not offer that SASL mechanism; mend sasl.mechanism",
    34: "it refused our login; mend sasl",  # so it answers to whatever follows a bearer token that it does not take
    35: "it is too old for what we ask; upgrade it, 2.5 or newer for exactly_once",
    43: "topic {topic} has a message format that is too old; set its message.format.version to 2.1 or newer",
    44: "a policy of the cluster refuses us; ask its operators",
    50: "it allows no transaction as long as delivery_timeout; shorten that, or raise its transaction.max.timeout.ms",
    53: "we may not use transactional id {id}; grant WRITE and DESCRIBE on it",
    54: "it has no security switched on; remove sasl",
    58: "it refused our login; mend sasl",
    76: "it does not know that compression; mend compression",
}


class MissingTopic(Exception):
    """The cluster's metadata, which is the authority, has no such topic. (Elsewhere error 3 is a broker that has not
    heard of it yet.)"""


class Refused(Exception):
    """An answer held an error code."""

    def __init__(self, code: int, doing: str) -> None:
        super().__init__(f"{doing}: {name_of(code)}")
        self.code = code


def name_of(code: int) -> str:
    known = for_code(code)
    return str(known.message) if known.errno == code else f"error code {code}"


@dataclass(frozen=True)
class Place:
    """What sentences name."""

    sink: str
    servers: str
    topic: str
    transactional_id: str | None


def verdict(error: Exception, place: Place) -> StreamerError:
    """The verdict on anything that a broker, the network or the client library can do to us."""
    at = f"sink {place.sink}: kafka {place.servers}"
    if isinstance(error, MissingTopic):
        return ConfigError(
            f"{at}: topic {place.topic} does not exist, or we may not see it; create it (kafka-topics.sh --create --topic "
            f"{place.topic}), grant DESCRIBE on it, or mend topic"
        )
    code = _code(error)
    if code in _WE_ARE_WRONG:
        return ConfigError(
            f"{at}: {_WE_ARE_WRONG[code].format(topic=place.topic, id=place.transactional_id)} ({error})"
        )
    certificate = _tls_fault(error)
    if certificate is not None:
        return ConfigError(f"{at}: TLS failed: {certificate}; mend tls, or the listener's certificate")
    if isinstance(error, AuthenticationFailedError):
        return ConfigError(f"{at}: {_WE_ARE_WRONG[58]} ({error})")
    if isinstance(error, NotImplementedError | IncompatibleBrokerVersion):
        return ConfigError(f"{at}: {_WE_ARE_WRONG[35]} ({error})")
    if isinstance(error, TimeoutError):
        return RetryableError(f"{at}: no answer in time")
    if isinstance(error, ConnectionResetError | EOFError | KafkaConnectionError):
        # A listener with TLS, or without, hangs up on who comes the other way: it cannot be told from a broker that dies.
        return RetryableError(
            f"{at}: it hung up ({error}); if it keeps doing so, see whether tls and sasl fit its listener"
        )
    return RetryableError(f"{at}: {str(error) or type(error).__name__}")


def _code(error: Exception) -> int | None:
    if isinstance(error, Refused):
        return error.code
    return error.errno if isinstance(error, BrokerResponseError) else None


def _tls_fault(error: BaseException | None) -> str | None:
    """What an operator must mend. A connection that broke during the handshake is the world's fault."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return (error.reason or "").replace("_", " ").lower() or str(error)
        error = error.__cause__
    return None


@contextmanager
def map_errors(place: Place) -> Iterator[None]:
    """The one place where foreign exceptions become verdicts."""
    try:
        yield
    except (
        KafkaError,
        Refused,
        MissingTopic,
        OSError,
        EOFError,
        NotImplementedError,
    ) as error:  # TimeoutError is an OSError
        raise verdict(error, place) from error
