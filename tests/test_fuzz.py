"""Whatever comes from outside, only documented verdicts come of it: every target of `make fuzz`, by hypothesis, beginning from its corpus."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import SINKS, TARGETS, seeds

WORDS: dict[str, tuple[bytes, ...]] = {
    "decode": (b'"', b"\\ud800", b"1e999", b"[" * 130, b"\xff", b"null", b'"id":', b'"type":', b"-0", b"\n", b"\x00"),
    "formats": (
        b'"',
        b"|",
        b"=",
        b"\\",
        b"\\n",
        b"\\u2028",
        b"\xe2\x80\xae",
        b"null",
        b"{}",
        b"[]",
        b"1e308",
        b"\\ud800",
    ),
    "config": (
        *(b": ", b"- ", b"\n", b"{", b"}", b"[", b"]", b"&a ", b"*a", b"!!int ", b"!!bool ", b"${A}", b"${A:-1}", b"~"),
        *(b"<<: ", b"? ", b"'", b'"', b"0x", b"1e999", b"2026-13-01", b"1:2", b"-1", b"sinks: ", b"where: ", b"type: "),
    ),
    "rules": (
        *(
            b": ",
            b"- ",
            b"\n",
            b"{",
            b"}",
            b"[",
            b"]",
            b"&a ",
            b"*a",
            b"!!int ",
            b"!!null ",
            b"~",
            b"'",
            b".nan",
            b"-1",
        ),
        *(b"any: ", b"none: ", b"cidr: ", b"gt: ", b"in: ", b"exists: ", b"key: ", b"within: ", b"0s", b"T1098", b"*"),
    ),
    "api": (
        *(b"\n%%\n", b"\n\n", b"401\n\n", b"500\n\n", b"Retry-After: 9\n", b"Content-Encoding: gzip\n", b"\xff", b"{"),
        *(b'"data":', b'"has_more":true', b'"last_id":', b"null", b'{"id":"a"}', b"[", b"]", b"1e999", b"Date: 1\n"),
    ),
    "sinks": (
        *(name.encode() + b"\n" for name in SINKS),
        *(
            b"\n%%\n",
            b"200\n\n",
            b"400\n\n",
            b"429\n\n",
            b'"code":',
            b'"items":',
            b'"status":',
            b"null",
            b"-1",
            b"{}",
            b"[]",
        ),
        *(b'"ackId":', b'"acks":', b'"invalid-event-number":', b"1e999", b"true", b'"', b"\xff", b"9" * 400),
    ),
    "wire": (
        b"\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 ",
        b"200",
        b"Content-Length: ",
        b"\x00",
        b"\xff",
        b": ",
        b"chunked",
        b"-1",
    ),
}
EXAMPLES = {"decode": 200, "formats": 100, "config": 150, "rules": 150, "api": 150, "sinks": 250, "wire": 40}


def test_every_target_has_words_and_a_corpus() -> None:
    """Goal: no target is forgotten here. Method: the names."""
    assert WORDS.keys() == EXAMPLES.keys() == TARGETS.keys()
    assert all(seeds(target) for target in TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus(target: str) -> None:
    """Goal: what once broke something does not again. Method: every file of the corpus; what was found by fuzzing lies there too."""
    for seed in seeds(target):
        TARGETS[target](seed)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_near_the_corpus(target: str) -> None:
    """Goal: no damage to what is usual has an undocumented end. Method: stretches of a file of the corpus replaced by words, by any bytes or
    by a stretch of another file; the target checks every promise."""
    found = seeds(target)
    pieces = st.tuples(st.sampled_from(found), st.floats(0, 1), st.integers(1, 80)).map(piece)
    instead = st.sampled_from(WORDS[target]) | st.binary(max_size=8) | pieces
    edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 24), instead), min_size=1, max_size=5)

    @settings(deadline=None, max_examples=EXAMPLES[target])
    @given(st.sampled_from(found), edits)
    def damaged(raw: bytes, edits: list[tuple[float, int, bytes]]) -> None:
        for where, length, other in edits:
            at = int(where * len(raw))
            raw = raw[:at] + other + raw[at + length :]
        TARGETS[target](raw)

    damaged()


def piece(cut: tuple[bytes, float, int]) -> bytes:
    text, where, length = cut
    at = int(where * len(text))
    return text[at : at + length]
