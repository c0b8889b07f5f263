"""Wire bytes to an envelope. Total and lossless: whatever upstream sends becomes an envelope, nothing raises, no byte is lost.

The bytes travel as they came, except that line breaks between JSON tokens become spaces, so that an envelope is one line, and that
space around the whole is left out. Bytes that a strict JSON reader refuses (not JSON, not UTF-8, half of a surrogate pair, a number
beyond a double, deeper than `MAX_DEPTH`) travel as a JSON string of their text; text that is not UTF-8 is read as Latin-1, a character a byte.
What could be read of such a record is used all the same.
"""

from streamer.decode.envelope import Unknowns, to_envelope
from streamer.decode.facts import MAX_TYPE_CHARACTERS, decode_event
from streamer.decode.fitting import MAX_UNKNOWN_FIELDS
from streamer.decode.reading import read_any, read_usual
from streamer.decode.salvage import MAX_DEPTH

__all__ = [
    "MAX_DEPTH",
    "MAX_TYPE_CHARACTERS",
    "MAX_UNKNOWN_FIELDS",
    "Unknowns",
    "decode_event",
    "read_any",
    "read_usual",
    "to_envelope",
]
