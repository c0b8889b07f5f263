"""Reading the operator's file: values, references, overrides, and every mistake at once with its place and mend."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from streamer.config import Config, effective, judge, parse, parse_duration, parse_moment, show_duration, show_size
from streamer.errors import ConfigError
from streamer.sinks import sink_options
from streamer.sources import source_options

GOOD = """
sources:
  acme: {type: openai_audit_logs, api_key: sk-admin-test}
sinks:
  local: {type: file, path: audit.jsonl}
"""


def read(text: str, **env: str) -> Config:
    return parse(text, "c.yaml", sources=source_options(), sinks=sink_options(), env=env)


def problems(text: str, **env: str) -> list[str]:
    return judge(text, "c.yaml", sources=source_options(), sinks=sink_options(), env=env)[1]


def test_defaults_are_those_of_the_contract() -> None:
    """Goal: a minimal file is a sensible daemon; method: its values against CONTRACT's."""
    config = read(GOOD)
    source = config.sources["acme"]
    assert config.state == Path("/var/lib/streamer")
    assert config.admin is not None
    assert (config.admin.host, config.admin.port) == ("127.0.0.1", 9464)
    assert (source.start, source.poll_interval, source.overlap, source.concurrency) == (30 * 86_400, 10, 300, 8)
    assert [(r.every, r.window) for r in source.recheck] == [(900, 7200), (21_600, 172_800)]
    assert source.listings == ["organization", "tenant"]
    assert (config.journal.max_size, config.journal.keep) == (10 << 30, 7 * 86_400)


def test_all_mistakes_are_told_at_once_each_with_its_line_and_mend() -> None:
    """Goal: one run of `check` shows everything; method: a mistake of every kind in one file."""
    found = problems(
        """state: /s
colour: red
sources:
  acme:
    type: openai_audit_logs
    base_url: api.openai.com/v1
    listings: [organisation]
    start: 2999-01-01T00:00:00Z
    pol_interval: 10s
    overlap: 300
sinks:
  a: {type: fil, path: x}
  b: {path: x}
  c: {type: file}
  "no good": {type: file, path: "${NOWHERE}"}
admin: {listen: "localhost:99999"}
"""
    )
    expected = [
        "c.yaml:2: colour: unknown key; remove it",
        "c.yaml:4: sources.acme: api_key is missing; set api_key or api_key_file",
        "c.yaml:6: sources.acme.base_url: 'api.openai.com/v1' is not a URL; begin with https:// (or http://) and a host",
        "c.yaml:7: sources.acme.listings[0]: must be organization or tenant",
        "c.yaml:8: sources.acme.start: 2999-01-01T00:00:00+00:00 lies in the future; use now to begin with the next event",
        "c.yaml:9: sources.acme.pol_interval: unknown key; did you mean poll_interval?",
        "c.yaml:10: sources.acme.overlap: '300' is not a duration; write a number and a unit: 500ms, 10s, 5m, 12h, 30d",
        "c.yaml:13: sinks.b: needs a type",
        "c.yaml:14: sinks.c.path: is missing; add it",
        "c.yaml:15: sinks.no good.path: ${NOWHERE} is not set in the environment; set it or write ${NOWHERE:-…}",
        "c.yaml:16: admin.listen: localhost:99999 has no port; the highest is 65535",
    ]
    assert [p for p in found if "sinks.a" not in p and "is no name" not in p] == expected
    (unknown,) = [p for p in found if "sinks.a" in p]
    assert unknown.startswith("c.yaml:12: sinks.a: unknown type fil; did you mean file? known: archive, ")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "c.yaml:1: sources: is missing; add it"),
        ("sources: {}\nsinks: {o: {type: stdout}}", "c.yaml:1: sources: must name at least one"),
        (GOOD.replace("local:", "'a b':"), "is no name; use letters, digits, - and _"),
        (GOOD + "state: /a\nstate: /b", "c.yaml:7: state is there twice; keep one"),
        (GOOD.replace("api_key:", "api_key_file: /k, api_key:"), "api_key and api_key_file exclude each other"),
        (GOOD.replace("sk-admin-test", "''"), "api_key is empty; set it or use api_key_file"),
        (GOOD + "log: {level: loud}", "c.yaml:6: log.level: must be debug, info, warning or error"),
        (GOOD + "admin: {listen: 9464}", "admin.listen:"),
        (GOOD.replace("audit.jsonl", "x, rotate: {keep: 3}"), "give size, age or both"),
        (GOOD.replace("audit.jsonl", "x, was: local"), "local was local, which is still here; remove local, or `was`"),
        (GOOD + "  o: {type: stdout, was: x}\n  p: {type: stdout, was: x}", "o and p both were x; keep one `was`"),
    ],
)
def test_a_mistake_is_one_sentence(text: str, sentence: str) -> None:
    """Goal: each names the thing, its place and the mend; method: one mistake a time."""
    found = problems(text)
    assert any(sentence in p for p in found), found
    assert all("\n" not in p for p in found)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1\nb: {", "c.yaml:2: not YAML: "),
        ("a: b\n\tc: d", "c.yaml:2: not YAML: "),
        ("- a\n- b", "c.yaml:1: not a configuration: write keys and values"),
        ("a: {b: ${C}}", "c.yaml:1: not YAML: expected ',' or '}', but got '{'; put quotes around ${…}"),
        ("hello", "c.yaml:1: not a configuration"),
    ],
)
def test_what_is_no_yaml_mapping_says_where(text: str, sentence: str) -> None:
    """Goal: a line to look at; method: broken files."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    (problem,) = caught.value.problems
    assert problem.startswith(sentence)


def test_nothing_is_reported_that_only_follows_from_another_mistake() -> None:
    """Goal: no noise; method: one mistake that leaves a required key without its value."""
    assert problems(GOOD.replace("sk-admin-test", "[1, 2]")) == [
        "c.yaml:3: sources.acme.api_key: input should be a valid string"
    ]
    assert len(problems(GOOD.replace("sk-admin-test", "'${UNSET}'"))) == 1
    assert len(problems(GOOD.replace("audit.jsonl", "'${UNSET}'"))) == 1


def test_what_is_good_is_kept_for_a_further_look() -> None:
    """Goal: paths of good sinks are checked beside a bad source; method: one of each."""
    config, found = judge(
        GOOD.replace("api_key", "apikey"), "c.yaml", sources=source_options(), sinks=sink_options(), env={}
    )
    assert len(found) == 2  # the unknown key, and the one that is missing for it
    assert config is not None
    assert (list(config.sources), list(config.sinks)) == ([], ["local"])


def test_references_and_overrides() -> None:
    """Goal: secrets and differences come from the environment; method: one of each form."""
    text = GOOD.replace("sk-admin-test", "'${KEY}'").replace("audit.jsonl", "'${WHERE:-/var/log}/a.jsonl'")
    config = read(text, KEY="sk-admin-env", STREAMER_STATE="/elsewhere", STREAMER_SOURCES__ACME__POLL_INTERVAL="3s")
    dumped = config.model_dump(mode="json")
    assert config.sources["acme"].api_key.get_secret_value() == "sk-admin-env"  # type: ignore[attr-defined]  # the adapter's
    assert dumped["sinks"]["local"]["path"] == "/var/log/a.jsonl"
    assert config.state == Path("/elsewhere")
    assert config.sources["acme"].poll_interval == 3
    assert problems(GOOD, STREAMER_STATE__X="1", STREAMER_COLOUR="red", STREAMER_SINKS__LOCAL__X__Y="1") == [
        "STREAMER_COLOUR: colour: unknown key; remove it",
        "STREAMER_SINKS__LOCAL__X__Y: sinks.local.x: unknown key; remove it",
        "STREAMER_STATE__X: state: must be a path",
    ]
    (problem,) = problems(GOOD + "state: /s", STREAMER_STATE__X="1")
    assert problem == "STREAMER_STATE__X: state holds no keys; check the name of the variable"


def test_the_effective_configuration_can_be_read_again_and_tells_no_secret() -> None:
    """Goal: what `check` shows is a configuration; method: round trip, with every unit there is."""
    config = read(GOOD + "journal: {max_size: 3GiB, keep: 90m}")
    shown = effective(config)
    assert "sk-admin-test" not in shown
    assert "max_size: 3GiB" in shown
    assert "keep: 90m" in shown
    assert "wait: 0s" in shown
    again = read(shown)
    assert effective(again) == shown
    assert again.journal == config.journal


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("state: !!int abc", "c.yaml:1: state: is no value; put it in quotes"),
        ('state: !!int ""', "c.yaml:1: state: is no value; put it in quotes"),
        ("state: !!float _", "c.yaml:1: state: is no value; put it in quotes"),
        ("state: " + "9" * 5000, "is no value; put it in quotes"),
        ("? {a: b}\n: c", "c.yaml:1: the file: a key must be plain text; write it as one word"),
        ("state: ${OPEN}", "c.yaml:1: state: is no YAML; put quotes around it"),
        ("journal: {keep: 99999w}", "c.yaml:1: journal.keep: is longer than a hundred years; write less"),
        (GOOD.replace("api_key: ", "api_key:"), "sources.acme.api_key:sk-***: unknown key; remove it"),
        ("a: &a [*a]", "c.yaml:1: there is too much in here, aliases unfolded"),
        ("a: " + "[" * 100_000, "c.yaml:1: there is too much in here"),
        ("#" * (1 << 20) + "#", "c.yaml: is longer than 1048576 characters"),
    ],
)
def test_what_yaml_can_do_to_a_reader_is_a_mistake_like_any_other(text: str, sentence: str) -> None:
    """Goal: no file ends the program but with a sentence. Method: tags, keys, aliases, depth and length that once did."""
    try:
        found = problems(text, OPEN="[")
    except ConfigError as error:
        found = list(error.problems)
    assert any(sentence in p for p in found), found
    assert not any("sk-admin" in p for p in found)


def test_a_variable_that_is_no_yaml_is_named() -> None:
    """Goal: the operator sees which variable to mend. Method: an override that YAML cannot read."""
    assert problems(GOOD, STREAMER_STATE="[") == ["STREAMER_STATE: state: is no YAML; put quotes around it"]


@pytest.mark.parametrize("text", ["500ms", "1s", "90s", "5m", "12h", "30d", "2w"])
def test_durations_are_shown_as_they_are_written(text: str) -> None:
    """Goal: what is shown means the same; method: there and back."""
    assert parse_duration(show_duration(parse_duration(text))) == parse_duration(text)


def test_sizes_are_shown_in_their_largest_exact_unit() -> None:
    """Goal: 10737418240 is nothing to read; method: some sizes."""
    assert [show_size(n) for n in (0, 1, 1000, 1024, 10 << 30, (1 << 20) + 1024)] == [
        "0B",
        "1B",
        "1000B",
        "1KiB",
        "10GiB",
        "1025KiB",
    ]


def test_the_overlap_is_a_duration_or_auto() -> None:
    """Goal: both forms, and the reach that follows; method: each, and neither."""
    source = "type: openai_audit_logs, api_key: sk-admin-test"
    auto = read(GOOD.replace(source, source + ", overlap: auto")).sources["acme"]
    assert (auto.overlap, auto.longest_overlap_s) == ("auto", 3600)
    assert "overlap: auto" in effective(read(GOOD.replace(source, source + ", overlap: auto")))
    fixed = read(GOOD.replace(source, source + ", overlap: 10m")).sources["acme"]
    assert (fixed.overlap, fixed.longest_overlap_s) == (600, 600)
    (problem,) = problems(GOOD.replace(source, source + ", overlap: 0s"))
    assert "must be longer than 0" in problem


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("admin: {listen: here}", "listen: must be HOST:PORT, like 127.0.0.1:9464"),
        ("state: [a]", "state: must be a path"),
        ("log: {level: loud}", "level: must be "),
    ],
)
def test_a_value_of_another_kind_is_said_in_our_words(change: str, sentence: str) -> None:
    """Goal: no library's words reach an operator; method: wrong kinds in several places."""
    found = problems(f"{GOOD}\n{change}\n")
    assert any(sentence in problem for problem in found), found


def test_a_variable_may_hold_lists_and_mappings() -> None:
    """Goal: whatever YAML can say a variable can; method: a list of mappings for a source, durations and moments from other programs."""
    config = read(GOOD, STREAMER_SOURCES__ACME__RECHECK="[{every: 1h, window: 1d}, {every: 1d, window: 1w}]")
    assert [(one.every, one.window) for one in config.sources["acme"].recheck] == [(3600, 86_400), (86_400, 604_800)]
    assert parse_duration(timedelta(minutes=3)) == 180
    assert parse_moment(datetime.fromisoformat("2026-01-02")) == datetime(2026, 1, 2, tzinfo=UTC)
