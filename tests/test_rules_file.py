"""Rule files: what is refused, with its line, and what their own tests say."""

from pathlib import Path

import pytest

from streamer.enrich.rules import builtin_text, load_rules
from streamer.errors import ConfigError
from tests.test_rules import BUILTIN, decode, rules_of


def mistakes_in(body: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        rules_of(body)
    return list(refused.value.problems)


@pytest.mark.parametrize(
    ("body", "line", "sentence"),
    [
        ("rules:\n  - name: a\n   title: b", 3, "not YAML"),
        ("rulez: []", 1, "rulez: unknown key; did you mean rules?"),
        ("lists: {a: [b]}", 1, "holds no rule"),
        ("rules: []", 1, "rules: is empty"),
        ("- a", 1, "must hold keys and values"),
        ("rules:\n- {name: a, title: A}", 2, "rules[0]: match is missing"),
        ("rules:\n- {name: A B, title: A, match: {types: [scim.*]}}", 2, "'A B' is no name"),
        ("rules:\n- name: a\n  title: A\n  severety: high\n  match: {types: [scim.*]}", 4, "did you mean severity?"),
        ("rules:\n- name: a\n  title: A\n  severity: hihg\n  match: {types: [scim.*]}", 4, "did you mean high?"),
        ("rules:\n- name: a\n  title: A\n  severity: high\n  lower_to: low\n  match: {types: [scim.*]}", 5, "keep one"),
        ("rules:\n- name: a\n  title: A\n  match:\n    types:\n    - scim.*\n    - scim.disbled", 7, "did you mean scim.disabled?"),
        ("rules:\n- {name: a, title: A, match: {types: [scim.*]}}\n- {name: a, title: A, match: {types: [scim.*]}}", 3, "there is a rule a already"),
        ("rules:\n- name: a\n  title: A\n  match:\n    types: [scim.*]\n    where:\n      acter.email: x", 7, "did you mean actor.email?"),
        ("rules:\n- name: a\n  title: A\n  match:\n    types: [scim.*]\n    where:\n      actor.email: {equal: x}", 7, "did you mean equals?"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {details: x}}", 4, "no single field"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {actor..id: x}}", 4, "is no path"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {actor.ip: {cidr: 1.2.3}}}", 4, "1.2.3 is no network"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {details.n: {gt: many}}}", 4, "must be a number"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {details.n: {contains: ''}}}", 4, "an empty text"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {details.n: {in: {list: b}}}}", 4, "there is no list b"),
        ("lists: {bob: [x]}\nrules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {details.n: {in: {list: bib}}}}", 5, "did you mean bob?"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {time: yesterday}}", 4, "does not go with time"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {id: {outside_hours: x}}}", 4, "does not go with id"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {time: {outside_hours: {hours: 9-5, timezone: UTC}}}}", 4, "write them as 08:00-18:30"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {time: {outside_hours: {hours: 09:00-17:00, timezone: Mars}}}}", 4, "no time zone"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*]}\n  count: {key: actor.id, within: 5, at_least: 3}", 5, "write a number and a unit"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*]}\n  count: {key: actor.id, within: 90d, at_least: 3}", 5, "from 1s to 31d"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*]}\n  count: {key: actor.id, within: 1h, at_least: 1}", 5, "from 2 to 100"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*]}\n  count: {key: time, within: 1h, at_least: 2}", 5, "another for every event"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*]}\n  count: {within: 1h, at_least: 2}", 5, "key is missing"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*]}\n  first_seen: {value: actor.id}\n  count: {key: actor.id, within: 1h, at_least: 2}", 5, "write two rules"),
        ("rules:\n- name: a\n  title: A\n  attack: [T10]\n  match: {types: [scim.*]}", 4, "no ATT&CK technique"),
        ("rules:\n- name: a\n  title: A\n  reference: there\n  match: {types: [scim.*]}", 4, "begin with https://"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*]}\n  tests:\n  - name: t\n    events:\n    - {typ: scim.enabled}", 8, "did you mean type?"),
        ("rules:\n- name: a\n  title: A\n  name: b\n  match: {types: [scim.*]}", 4, "is there twice"),
        ("include: builtins", 1, "did you mean builtin?"),
        ("include: builtin\nwithout: [new-contry]", 2, "did you mean new-country?"),
        ("without: [new-country]\nrules:\n- {name: a, title: A, match: {types: [scim.*]}}", 1, "leaves nothing out"),
        ("a: &a [1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]", 1, "there is too much in here"),
        ("a: &a [*a]", 1, "there is too much in here"),
        ("lists: [a]\nrules:\n- name: a\n  title: A\n  match: {types: [scim.*]}", 1, "must hold lists by name"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {}}", 4, "must hold fields and what they are"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: [a]}", 4, "must hold fields and what they are"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: " + "{all: [" * 8 + "{id: x}" + "]}" * 8 + "}", 4, "is nested deeper than 6"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {actor.id: {}}}", 4, "asks nothing; name one of"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {actor.id: {in: {lists: b}}}}", 4, "must be a value, a list of values, or {list: NAME}"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {actor.id: {in: []}}}", 4, "is empty; name at least one"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {actor.id: {in: " + str(list(range(1001))) + "}}}", 4, "has 1001 items, at most 1000 are taken"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {actor.id: {exists: maybe}}}", 4, "must be true or false"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {actor.id: {equals: {a: b}}}}", 4, "must be text, a number, true or false"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {actor.id: " + "x" * 2001 + "}}", 4, "is longer than 2000 characters"),
        ("rules:\n- name: a\n  title: " + "A" * 2001 + "\n  match: {types: [scim.*]}", 3, "is longer than 2000 characters"),
        ("rules:\n- name: a\n  title: 7\n  match: {types: [scim.*]}", 3, "must be text; put it in quotes"),
        ("rules:\n- name: a\n  title: A\n  tags: [two words]\n  match: {types: [scim.*]}", 4, "is no tag; write one word"),
        ("rules:\n- name: a\n  title: A\n  tags: []\n  match: {types: [scim.*]}", 4, "is empty"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*]}\n  count: {key: actor.idd, within: 1h, at_least: 2}", 5, "did you mean actor.id?"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {time: {outside_hours: {hours: 09:00-25:00, timezone: UTC}}}}", 4, "are no hours"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*], where: {time: {outside_hours: {hours: 12:00-12:00, timezone: UTC}}}}", 4, "are no hours"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*]}\n  tests:\n  - name: t\n    events:\n    - {type: scim.enabled, envelope: [a]}", 8, "must hold fields of the envelope"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*]}\n  tests:\n  - name: t\n    events:\n    - {type: scim.enabled, effective_at: soon}", 8, "must be a time such as 2026-01-31T00:00:00Z"),
        ("rules:\n- name: a\n  title: A\n  match: {types: [scim.*]}\n  tests:\n  - name: t\n    events:\n" + "    - {type: scim.enabled}\n" * 1001, 7, "has 1001 items, at most 1000 are taken"),
        ("", 1, "holds no rule"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_its_line(body: str, line: int, sentence: str) -> None:
    """Goal: whoever writes rules is told where and how to mend. Method: one mistake a file; the line and a piece of the sentence."""
    found = mistakes_in(body)
    assert any(problem.startswith(f"rules.yaml:{line}: ") and sentence in problem for problem in found), found


def test_all_mistakes_come_at_once() -> None:
    """Goal: nobody mends a file mistake by mistake. Method: three in one file, in the order of their lines."""
    found = mistakes_in("rules:\n- name: a\n  titel: A\n  severity: x\n  match: {types: [nothing.known]}")
    assert [problem.split(": ")[0] for problem in found] == [
        "rules.yaml:2",
        "rules.yaml:3",
        "rules.yaml:4",
        "rules.yaml:5",
    ]


def test_a_file_may_take_over_the_built_in_rules() -> None:
    """Goal: own rules beside the built-in ones, some of which may go. Method: include, without, and one rule."""
    found = rules_of(
        "include: builtin\nwithout: [unusual-hour, dormant-creator]\nrules: [{name: own, title: Own, match: {types: [scim.*]}}]"
    )
    names = [rule.name for rule in found.rules]
    assert names[-1] == "own"
    assert len(names) == len(BUILTIN.rules) - 1
    assert "unusual-hour" not in names


def test_a_rule_file_is_read_from_disk(tmp_path: Path) -> None:
    """Goal: the configured path is the rules, or a sentence. Method: a good file, one that is absent, one that is no text."""
    path = tmp_path / "rules.yaml"
    with pytest.raises(ConfigError, match="cannot be read"):
        load_rules(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_rules(path)
    path.write_text(builtin_text(), "utf-8")
    assert load_rules(path).table() == BUILTIN.table()


def test_a_rule_whose_test_fails_says_which_event() -> None:
    """Goal: a failing test names its line and event. Method: a rule whose test says the opposite of what it does."""
    rules = rules_of("""rules:
  - name: it
    title: It
    match: {types: [scim.disabled], where: {labels.network: {exists: false}}}
    tests:
      - name: wrong
        events:
          - {type: scim.disabled}
          - {match: true, type: scim.disabled, envelope: {labels: {network: corp}}}
          - {type: scim.disabled, envelope: {labels: 5}}
      - {name: right, events: [{match: true, type: scim.disabled}]}
""")
    wrong, right = rules.run_tests(decode)
    assert (wrong.passed, wrong.line, right.passed) == (False, 6, True)
    assert wrong.problems[:2] == (
        "line 8: event 1 (scim.disabled) matches and should not",
        "line 9: event 2 (scim.disabled) should match and does not",
    )
    assert "line 10" in wrong.problems[2]


def test_a_test_event_may_say_when_in_seconds_or_in_words() -> None:
    """Goal: both are the same moment; method: a rule about Monday's working hours, and an event at 14:13 of one."""
    for moment in ("1750083180", "2025-06-16T14:13:00Z"):
        rules = rules_of(
            "rules:\n- name: a\n  title: A\n  match:\n    types: [scim.*]\n    where: {time: {outside_hours: {hours: 15:00-16:00, timezone: UTC}}}\n"
            f"  tests:\n  - name: t\n    events:\n    - {{type: scim.enabled, effective_at: {moment}, match: true}}\n"
        )
        assert [result.passed for result in rules.run_tests(decode)] == [True]
