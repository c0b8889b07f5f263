"""Bodies to records: the good ones, the odd ones, and whatever else may come."""

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.sources.openai_pages import MAX_DEPTH, NotAPage, Page, read_page
from tests.wire import event, page

ONE, TWO = event(1, 1_700_000_000), event(2, 1_700_000_001)


def test_records_are_the_bytes_that_stood_on_the_wire() -> None:
    """Goal: no byte of a record changes. Method: records with odd spacing, escapes and number forms in one page."""
    records = [b'{ "id" :\t"a" , "x":1.50e+02}', b'{"id":"\\u00e9\\/","y":[ ]}', '{"id":"é"}'.encode(), b"null", b"17"]
    assert read_page(page(records, has_more=True, last_id="z")) == Page(records, True, "z")


def test_records_are_copies() -> None:
    """Goal: a record does not keep its page in memory. Method: they are plain bytes, and no views."""
    assert [type(record) for record in read_page(page([ONE, TWO])).records] == [bytes, bytes]


@pytest.mark.parametrize(
    ("body", "more", "last"),
    [
        (b'{"data":[]}', None, None),
        (b'{"data":[],"has_more":"true","last_id":17}', None, None),
        (b'{"data":[],"has_more":1,"last_id":""}', None, None),
        (b'{"data":[],"has_more":null,"last_id":null}', None, None),
        (b'{"data":[],"has_more":true,"last_id":"\xff"}', True, None),
        (b'{"data":[],"has_more":false,"last_id":1e999}', False, None),
        (b'\xef\xbb\xbf{"data":[],"has_more":true,"last_id":"a"}', True, "a"),
        (b' \r\n{"has_more" : true , "last_id" : "\\u0061", "data" : [ ] , "new":{"data":[1]}}\n', True, "a"),
    ],
)
def test_the_frame_may_be_odd(body: bytes, more: bool | None, last: str | None) -> None:
    """Goal: what surrounds the records cannot break the page. Method: odd kinds for each of its fields."""
    found = read_page(body)
    assert (found.records, found.has_more, found.last_id) == ([], more, last)


@pytest.mark.parametrize("between", [b"", b"\n", b"\r\n\r\n", b"  "])
def test_concatenated_documents(between: bytes) -> None:
    """Goal: several lists in one body are one page. Method: two of them, with each thing that may stand between."""
    body = page([ONE], has_more=True) + between + page([TWO], has_more=False, last_id="end") + between
    assert read_page(body) == Page([ONE, TWO], True, "end", documents=2)


def test_concatenated_documents_end_where_all_of_them_end() -> None:
    """Goal: has_more of several documents errs towards asking again. Method: both say no; one says no and one nothing."""
    assert read_page(page([ONE]) + page([TWO])).has_more is False
    assert read_page(b'{"data":[],"has_more":false}{"data":[]}').has_more is None


@pytest.mark.parametrize(
    "bad",
    [
        b"NaN",
        b'{"a":NaN}',
        b'{"a":-Infinity,"b":[1,]}',
        b'"\\ud800"',
        b'{"a":"\n"}',
        b'{"a":01}',
        b"{'a':1}",
        b'{"x":"\\q,]}"}',
    ],
)
def test_one_bad_record_does_not_take_the_others_with_it(bad: bytes) -> None:
    """Goal: a record that is no JSON comes out as it is, and so do its neighbours. Method: each kind of badness between two good records."""
    body = page([ONE, bad, TWO], has_more=True, last_id="z")
    assert read_page(body) == Page([ONE, bad, TWO], True, "z", salvaged=True)
    twice = read_page(body + b"\n" + page([ONE]))
    assert (twice.records, twice.documents, twice.salvaged) == ([ONE, bad, TWO, ONE], 2, True)


def test_a_bad_byte_in_a_string_passes() -> None:
    """Goal: bytes that are not UTF-8 go through. Method: one in a record, one in the frame."""
    record = b'{"id":"\xff\xfe"}'
    assert read_page(b'{"data":[' + record + b'],"has_more":false,"note":"\xff"}') == Page([record], False, None)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "an empty body"),
        (b" \n", "an empty body"),
        (b"<html></html>", "not JSON"),
        (b"upstream connect error", "not JSON"),
        (b"[]", "not a list object"),
        (b"null", "not a list object"),
        (b'{"data":{}}', "not a list object"),
        (b'{"object":"list"}', "without a `data` array"),
        (b'{"data":null,"has_more":false}', "without a `data` array"),
        (b'{"error":{"message":"no"}}', "an error object"),
        (page([ONE, TWO])[:-1], "cut short"),
        (page([ONE, TWO])[:60], "cut short"),
        (b'{"data":["abc', "cut short"),
        (page([ONE]) + page([TWO])[:-9], "cut short"),
        (page([ONE]) + b"]", "brackets that do not match"),
        (b'{"data":[NaN}]', "brackets that do not match"),
        (page([ONE]) + b"garbage", "not JSON"),
        (page([ONE]) + b"," + page([TWO]), "not JSON"),
        (page([ONE]) + b'{"error":"late"}', "an error object"),
        (b'{"data":[' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"]}", "nested too deeply"),
        (b'{"data":[NaN,' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"]}", "nested too deeply"),
        (b'{"data":[' + b"[" * 1_000_000, "nested too deeply"),
    ],
)
def test_what_is_no_page_says_what_it_is(body: bytes, says: str) -> None:
    """Goal: every other body is refused in words. Method: one of each kind, nesting bombs and cut pages among them."""
    with pytest.raises(NotAPage, match=says):
        read_page(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":["' + b'\\"' * 500_000,
        b'{"data":["' + b'\\"' * 500_000 + b'",NaN]}',
        b'"' * 1_000_001,
        b'{"data":[NaN' + b",{}" * 100_000 + b"]}",
        b"{}" * 300_000,
        b'{"data":[NaN]' + b',"data":[]' * 50_000 + b"}",
    ],
)
def test_a_hostile_body_costs_time_in_proportion(body: bytes) -> None:
    """Goal: no body makes the reader slow out of proportion. Method: a megabyte of each thing that tempts a pattern to begin again."""
    begun = time.process_time()
    with suppress(NotAPage):
        read_page(body)
    assert time.process_time() - begun < 5


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=6), st.booleans(), st.integers(0, 3))
def test_any_records_come_out_whole(values: list[object], ascii_only: bool, junk: int) -> None:
    """Goal: whatever JSON-like text the records are, each comes out as it went in. Method: random values as Python's lenient writer writes
    them (NaN, Infinity and lone surrogates included), alone and beside records that force the cutting up."""
    records = [json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") for value in values]
    records += [b"NaN"] * junk
    found = read_page(page(records, has_more=True, last_id="z"))
    assert (found.records, found.has_more, found.last_id) == (records, True, "z")


@given(st.binary(max_size=60) | st.text('{}[]",:\\ndata', max_size=60).map(str.encode))
def test_any_bytes_are_a_page_or_are_not(body: bytes) -> None:
    """Goal: nothing but NotAPage is ever raised. Method: random bytes, and random JSON punctuation."""
    for text in (body, page([ONE])[:-1] + body, b'{"data":[' + body + b"]}"):
        try:
            found = read_page(text)
        except NotAPage:
            continue
        assert all(isinstance(record, bytes) for record in found.records)
