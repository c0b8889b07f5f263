"""What holds for all formats at once."""

import pytest

from bench.formats import FORMATS, cost_us, decoding_us
from streamer.config import FormatName
from streamer.formats import make_format
from tests import every_type


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_cheap(name: FormatName) -> None:
    """Goal: no format slows the tail. Method: CPU time against decoding the same envelopes; about 7 times here, 14 leave room."""
    assert cost_us(make_format(name, {"acme": "org-1"}).encode, 8) < 14 * decoding_us(8)


@pytest.mark.parametrize("name", FORMATS)
def test_a_retry_sends_the_same_bytes(name: FormatName) -> None:
    """Goal: what is delivered again is the same. Method: every record of every type twice, by two formats of the same name."""
    first, again = make_format(name, {"acme": "org-1"}), make_format(name, {"acme": "org-1"})
    for record in every_type.all_records()[::7]:
        body = first.encode(record)
        assert body == again.encode(type(record)(record.seq, record.line))
        assert b"\n" not in body
