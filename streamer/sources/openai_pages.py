"""A response body of a list endpoint to its records, as bytes. Pure, and total: a page or `NotAPage`, whatever comes.

msgspec reads a whole page and leaves each record as the bytes that stood on the wire. It refuses a page for one bad
token in one record, and several documents in one body; such a body is cut up by its brackets instead, so that the good
records still come out and the bad one reaches the decoder as it is.
"""

import re
from collections.abc import Iterator

import msgspec

from streamer.errors import NOT_JSON


class NotAPage(Exception):  # the client turns it into a verdict, with the request's place
    """The body is not a list of records; the message says what it is instead."""


class Page(msgspec.Struct, frozen=True, gc=False):
    records: list[bytes]
    """In the server's order; own copies, so that the body can go."""
    has_more: bool | None
    """None: the server did not say."""
    last_id: str | None
    next: str | None = None
    """Only in lists whose objects have no id of their own."""
    documents: int = 1
    """More than one: concatenated JSON."""
    salvaged: bool = False
    """The JSON was invalid somewhere, and the records were told apart by their brackets."""


class _Body(msgspec.Struct, gc=False):
    data: list[msgspec.Raw] | None = None
    has_more: msgspec.Raw = msgspec.Raw(b"null")
    last_id: msgspec.Raw = msgspec.Raw(b"null")
    next: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_text = msgspec.json.Decoder(str).decode

MAX_DEPTH = 500
"""Of a body that is cut up by its brackets; msgspec's own limit, Python's recursion limit, lies above."""

_BLANK = b" \t\r\n"
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["{}\[\],:]', re.DOTALL)
_CLOSES = {b"}": b"{", b"]": b"["}


def read_page(body: bytes) -> Page:
    """NotAPage for everything that is not at least one list object with a `data` array."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        return _page(_decode_body(body))
    except RecursionError:
        raise NotAPage("JSON nested too deeply") from None
    except msgspec.ValidationError:
        raise NotAPage("JSON that is not a list object") from None
    except msgspec.DecodeError:
        pages = [_document(document) for document in _documents(body)]
    if not pages:
        raise NotAPage("an empty body")
    said = [page.has_more for page in pages]
    return Page(
        [record for page in pages for record in page.records],
        # One request too many ends at an empty page; one too few would lose events.
        True if True in said else said[-1],
        next((page.last_id for page in reversed(pages) if page.last_id), None),
        next((page.next for page in reversed(pages) if page.next), None),
        documents=len(pages),
        salvaged=any(page.salvaged for page in pages),
    )


def _document(document: bytes) -> Page:
    try:
        return _page(_decode_body(document))
    except RecursionError:
        raise NotAPage("JSON nested too deeply") from None
    except msgspec.ValidationError:
        raise NotAPage("JSON that is not a list object") from None
    except msgspec.DecodeError:
        return _salvage(document)


def _page(body: _Body, salvaged: bool = False) -> Page:
    if body.data is None:
        if bytes(body.error) != b"null":
            raise NotAPage("an error object")
        raise NotAPage("JSON without a `data` array")
    has_more = {b"true": True, b"false": False}.get(bytes(body.has_more))
    records = [bytes(record) for record in body.data]
    return Page(records, has_more, _text(bytes(body.last_id)), _text(bytes(body.next)), salvaged=salvaged)


def _text(value: bytes) -> str | None:
    try:
        return _decode_text(value) or None
    except NOT_JSON:
        return None


def _salvage(document: bytes) -> Page:
    """A document that is not valid JSON but whose brackets match."""
    parts = list(_members(document))
    fields = dict(zip(parts[::2], parts[1::2], strict=False))
    data = fields.get(b'"data"', b"")
    if document[:1] != b"{" or data[:1] != b"[":
        raise NotAPage("text that is not JSON")
    return _page(
        _Body(
            [msgspec.Raw(record) for record in _members(data) if record],
            msgspec.Raw(fields.get(b'"has_more"', b"null")),
            msgspec.Raw(fields.get(b'"last_id"', b"null")),
            msgspec.Raw(fields.get(b'"next"', b"null")),
        ),
        salvaged=True,
    )


def _documents(body: bytes) -> Iterator[bytes]:
    """The bracketed values that follow each other in a body, with nothing but blanks between them."""
    start = 0
    for depth, token, at in _tokens(body):
        if depth == 0:
            if token not in b"}]" or body[start:at].strip(_BLANK)[:1] not in (b"{", b"["):
                raise NotAPage("text that is not JSON")
            yield body[start : at + 1].strip(_BLANK)
            start = at + 1
    if body[start:].strip(_BLANK):
        raise NotAPage("JSON that is cut short" if start == 0 and body[:1] in b"{[" else "text that is not JSON")


def _members(container: bytes) -> Iterator[bytes]:
    """What stands directly inside an array, or the keys and values of an object in turn."""
    start, last = 1, len(container) - 1
    for depth, token, at in _tokens(container):
        if (depth == 1 and token in b",:") or at == last:
            member = container[start:at].strip(_BLANK)
            if member or at != last:
                yield member
            start = at + 1


def _tokens(text: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Brackets and separators outside of strings: (depth around it, the token, its place).

    Without recursion, and in one pass: a hostile body costs time in proportion to its length, no more.
    """
    opened = bytearray()
    for match in _TOKEN.finditer(text):
        token = match[0]
        if len(token) > 1:
            continue
        if token == b'"':
            raise NotAPage("JSON that is cut short")
        if token in b"{[":
            yield len(opened) + 1, token, match.start()
            opened += token
            if len(opened) > MAX_DEPTH:
                raise NotAPage("JSON nested too deeply")
            continue
        if token in b"}]" and (not opened or opened.pop() != _CLOSES[token][0]):
            raise NotAPage("JSON with brackets that do not match")
        yield len(opened), token, match.start()
    if opened:
        raise NotAPage("JSON that is cut short")
