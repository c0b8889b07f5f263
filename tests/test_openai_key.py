"""The key of the Admin API: from where it is read, when it is read again, and that it shows nowhere; and the options beside it."""

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from streamer.config import effective, parse
from streamer.errors import ConfigError
from streamer.model import SourceName
from streamer.sources import source_options
from streamer.sources.openai_api import open_admin_api
from streamer.sources.openai_key import fingerprint, is_shortened
from streamer.sources.openai_options import OpenAIAuditLogsOptions
from streamer.telemetry import Telemetry
from tests.openai_world import ERROR, GOOD, KEY, asking, get, made
from tests.wire import Asked, Script, reply, requests, script


def only(*keys: str) -> Script:
    return lambda asked: (
        GOOD if asked.headers["authorization"] in {f"Bearer {key}" for key in keys} else reply(ERROR, 401)
    )


async def test_a_new_key_in_the_file_is_used(tmp_path: Path) -> None:
    """Goal: a key is rotated by replacing its file, without a failed request. Method: replaced between two requests."""
    file = tmp_path / "key"
    file.write_text("sk-old\n")
    async with asking(script(GOOD), api_key_file=file) as (api, upstream):
        await get(api)
        (tmp_path / "new").write_text("sk-new-one\n")
        (tmp_path / "new").rename(file)
        await get(api)
    assert [asked.headers["authorization"] for asked in upstream.asked] == ["Bearer sk-old", "Bearer sk-new-one"]


async def test_a_401_reads_the_file_before_it_counts(tmp_path: Path) -> None:
    """Goal: a rotation during a request is no failure. Method: the server puts the new key into the file, in place and of the same length, while
    it refuses the old one."""
    file = tmp_path / "key"
    file.write_text("sk-old")

    def rotating(asked: Asked) -> bytes:
        if asked.headers["authorization"] == "Bearer sk-new":
            return GOOD
        file.write_text("sk-new")
        return reply(ERROR, 401)

    telemetry = Telemetry()
    async with asking(rotating, telemetry, api_key_file=file) as (api, upstream):
        assert await get(api) == b'{"data":[]}'
        assert await get(api) == b'{"data":[]}'
    assert [asked.headers["authorization"][-3:] for asked in upstream.asked] == ["old", "new", "new"]
    assert requests(telemetry) == {"401": 1, "200": 2}


async def test_a_401_counts_when_the_key_is_the_same(tmp_path: Path) -> None:
    """Goal: one request for a wrong key, not two, and two for a wrong new one. Method: the file as it is, and replaced by another wrong key."""
    file = tmp_path / "key"
    file.write_text("sk-old")
    async with asking(only("sk-good"), api_key_file=file) as (api, upstream):
        with pytest.raises(ConfigError, match=f"401.*put a valid admin key .* in {file}"):
            await get(api)
        assert len(upstream.asked) == 1
        file.write_text("sk-other")
        with pytest.raises(ConfigError, match="401"):
            await get(api)
        file.write_text("sk-good")
        assert await get(api) == b'{"data":[]}'
    assert len(upstream.asked) == 3


def key_in_use(telemetry: Telemetry) -> tuple[str, str]:
    """Fingerprint and place, by the metric."""
    found = [
        (sample.labels["fingerprint"], sample.labels["place"])
        for family in telemetry.registry.collect()
        for sample in family.samples
        if sample.name == "streamer_source_key_info"
    ]
    assert len(found) == 1
    return found[0]


async def test_of_two_keys_the_other_is_tried_before_a_401_counts(tmp_path: Path) -> None:
    """Goal: keys overlap: the first is used while it is good, the other when it is refused, and no request fails or asks twice for a key that was
    refused; which one is told without telling the key. Method: two lines, of which one after the other is revoked; then both."""
    file, good, telemetry = tmp_path / "key", {"sk-one", "sk-two"}, Telemetry()
    file.write_text("sk-one\n\n  sk-two\n")

    def answer(asked: Asked) -> bytes:
        return GOOD if asked.headers["authorization"].removeprefix("Bearer ") in good else reply(ERROR, 401)

    async with asking(answer, telemetry, api_key_file=file) as (api, upstream):
        await get(api)
        assert key_in_use(telemetry) == (fingerprint("sk-one"), "1")
        good.discard("sk-one")
        await get(api)
        await get(api)
        assert key_in_use(telemetry) == (fingerprint("sk-two"), "2")
        assert [asked.headers["authorization"][-3:] for asked in upstream.asked] == ["one", "one", "two", "two"]
        good.clear()
        with pytest.raises(ConfigError, match=f"401.*put a valid admin key .* in {file}"):
            await get(api)
        good.add("sk-one")
        await get(api)
        file.write_text("sk-one\n")
        await get(api)
        assert telemetry.status.keys["acme"].of == 1
    assert "sk-" not in repr(telemetry.status.as_dict(0.0))
    assert fingerprint("sk-one") != fingerprint("sk-two")


@pytest.mark.parametrize(
    ("shown", "ours"),
    [
        ("sk-admin-sim***********ted", True),
        ("sk-admin-sim...ted", True),
        ("sk-admin-sim***********tid", False),
        ("sk-admin-***", False),
        ("", False),
    ],
)
def test_a_key_is_found_among_shortened_ones(shown: str, ours: bool) -> None:
    """Goal: the row of the key in use, and no other; method: beginnings and ends."""
    assert is_shortened("sk-admin-simulated", shown) == ours


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty; write the secret into it"),
        (None, "cannot read .*key"),
        ("one\ntwo\nthree", "3 API keys; put one there, or two while one replaces the other"),
        ("two words", "put the key alone there"),
        ("schlüssel", "alone"),
    ],
)
async def test_a_key_file_that_cannot_be_used(content: str | None, says: str, tmp_path: Path) -> None:
    """Goal: an unusable key is one sentence at the start. Method: each kind of bad file."""
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=says) as caught:
        async with open_admin_api(SourceName("acme"), made("http://x", api_key_file=file), Telemetry()):
            raise AssertionError("opened")
    assert "sources.acme" in str(caught.value)
    assert "schlüssel" not in str(caught.value)


async def test_the_key_shows_nowhere(tmp_path: Path) -> None:
    """Goal: neither repr nor log nor metric holds the key. Method: everything printable after a good and a bad request, logs at debug level."""
    out = io.StringIO()
    telemetry = Telemetry()
    with redirect_stdout(out), redirect_stderr(out):
        async with asking(script(GOOD, reply(ERROR, 401)), telemetry) as (api, upstream):
            await get(api)
            with pytest.raises(ConfigError) as caught:
                await get(api)
            options = made(upstream.base_url)
            shown = [
                repr(api),
                str(vars(api)),
                repr(options),
                str(options),
                options.model_dump_json(),
                repr(options.key(SourceName("a"))),
            ]
            shown += [repr(caught.value.__cause__), str(telemetry.status), repr(list(telemetry.registry.collect()))]
    assert KEY not in "".join(shown) + out.getvalue()


# --- options --------------------------------------------------------------------------------------------------------


def configured(text: str) -> Any:
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    whole = f"sources:\n  acme:\n    type: openai_audit_logs\n{lines}sinks: {{out: {{}}}}\n"
    return parse(whole, "c.yaml", sources=source_options(), sinks={}, env={})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "sources.acme: api_key is missing; set api_key or api_key_file"),
        ("api_key: a\napi_key_file: b", "sources.acme: api_key and api_key_file exclude each other; keep one"),
        ("api_key: ' '", "api_key is empty"),
        ("api_key: a\nbase_url: api.openai.com", "sources.acme.base_url: 'api.openai.com' is not a URL"),
        ("api_key: a\nbase_url: https://h/v1?x=y", "sources.acme.base_url: .*must be an address alone"),
        ("api_key: a\nbase_url: https://me:pass-word@h/v1", "sources.acme.base_url: .*must be an address alone"),
        ("api_key: a\nbase_url: https://h:99999", "sources.acme.base_url: is not a URL that can be asked"),
        (f"api_key: a\nbase_url: https://{'x' * 70}.com", "is not a URL that can be asked"),
        ("api_key: a\nproxy: proxy", "sources.acme.proxy: 'proxy' is not a URL"),
        ("api_key: a\nfilters: {event_type: [x]}", "filters.event_type: unknown key; did you mean event_types"),
        ("api_key: a\nfilters: {event_types: ['']}", "filters.event_types"),
        ("api_key: a\ntimeouts: {read: 5}", "timeouts.read: .*is not a duration"),
        (
            "api_key: a\nlistings: [tenant]\nfilters: {event_types: [api_key.created]}",
            "holds no type of listings tenant",
        ),
        ("api_key: a\norganization_id: 'org 1'", "sources.acme.organization_id"),
    ],
)
def test_wrong_options(text: str, says: str) -> None:
    """Goal: a wrong option is a sentence with its place and its mend. Method: each in a configuration file."""
    with pytest.raises(ConfigError, match=says) as caught:
        configured(text)
    assert "pass-word" not in str(caught.value)


def test_options_in_force_hide_secrets() -> None:
    """Goal: `check` can print what is in force. Method: a key and a proxy's password."""
    config = configured(f"api_key: {KEY}\nproxy: http://me:pass-word@proxy:3128")
    shown = effective(config)
    assert KEY not in shown
    assert "pass-word" not in shown
    assert "http://proxy:3128" in shown
    assert "base_url: https://api.openai.com/v1" in shown


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://[::1]:8080/v1/", "http://[::1]:8080/v1"),
        ("https://eu.api.openai.com", "https://eu.api.openai.com"),
        ("https://bücher.example/v 1", "https://xn--bcher-kva.example/v%201"),
    ],
)
def test_addresses_as_they_are_used(given: str, used: str) -> None:
    """Goal: any valid address can be asked. Method: IPv6, no path, and characters that have to be encoded."""
    assert made(given).base_url == used


def test_a_bad_option_does_not_show_its_neighbours() -> None:
    """Goal: pydantic's own message of a wrong option holds no key. Method: a wrong type beside one."""
    with pytest.raises(ValidationError) as caught:
        OpenAIAuditLogsOptions.model_validate({"api_key": KEY, "api_key_file": "x"})
    assert KEY not in str(caught.value)
