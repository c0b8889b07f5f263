"""CEF and LEEF read back, written from the text of their specifications and not from our encoders; strict where those are."""

from typing import NamedTuple


class Parsed(NamedTuple):
    header: list[str]
    pairs: dict[str, str]


def parse_cef(line: str) -> Parsed:
    r"""Seven header fields with `\\` and `\|`; then pairs, in whose values `\\`, `\=`, `\n` and `\r` are escapes.

    A key is the word before an equals sign that is not escaped; a value reaches to the space before the next key.
    """
    assert line.startswith("CEF:")
    header, rest = _cef_header(line)
    return Parsed(header, _cef_pairs(rest))


def _cef_header(line: str) -> tuple[list[str], str]:
    fields, field, at = [], "", 0
    while len(fields) < 7:
        character = line[at]  # an IndexError here is a header that is too short
        if character == "\\":
            assert line[at + 1] in "\\|", f"an unknown escape in the header at {at}"
            field += line[at + 1]
            at += 2
            continue
        if character == "|":
            fields.append(field)
            field = ""
        else:
            field += character
        at += 1
    return fields, line[at:]


def _cef_pairs(text: str) -> dict[str, str]:
    equals = [at for at, character in enumerate(text) if character == "=" and not _is_escaped(text, at)]
    starts = [text.rfind(" ", 0, at) + 1 for at in equals]
    pairs: dict[str, str] = {}
    for number, at in enumerate(equals):
        key = text[starts[number] : at]
        end = starts[number + 1] - 1 if number + 1 < len(equals) else len(text)
        assert key, "a pair without a key"
        assert all(part.isalnum() or part in "_.[]" for part in key), f"{key!r} is no key"
        assert key not in pairs, f"{key} is there twice"
        pairs[key] = _cef_unescaped(text[at + 1 : end])
    assert not text or starts[0] == 0, "text before the first key"
    return pairs


def _is_escaped(text: str, at: int) -> bool:
    backslashes = len(text[:at]) - len(text[:at].rstrip("\\"))
    return backslashes % 2 == 1


def _cef_unescaped(value: str) -> str:
    meant = {"\\": "\\", "=": "=", "n": "\n", "r": "\r"}
    text, at = "", 0
    while at < len(value):
        if value[at] == "\\":
            text += meant[value[at + 1]]  # a KeyError here is an escape that the specification does not have
            at += 2
        else:
            text += value[at]
            at += 1
    return text


def parse_leef(line: str) -> Parsed:
    """LEEF 2.0: five header fields and the delimiter (a character, or `x` and 1 to 4 hexadecimal digits); then pairs, no escape."""
    *header, delimiter, rest = line.split("|", 6)
    assert len(header) == 5, "a header that is too short"
    assert header[0] == "LEEF:2.0"
    separator = chr(int(delimiter.removeprefix("0").removeprefix("x"), 16)) if len(delimiter) > 1 else delimiter or "\t"
    pairs: dict[str, str] = {}
    for pair in rest.split(separator):
        key, equals, value = pair.partition("=")
        assert equals, f"{pair!r} is no pair"
        assert key.isalnum(), f"{key!r} is no key"
        assert key not in pairs, f"{key} is there twice"
        pairs[key] = value
    return Parsed(header, pairs)
