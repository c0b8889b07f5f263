"""rules: detections as data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 120
"""Columns from which there is room for what a rule looks like as well as for what it says."""

app = typer.Typer(help="Rules: severity, tags and detections.", no_args_is_help=True)

RuleFile = Annotated[
    Path | None, typer.Argument(help="A rule file; the built-in rules without one.", show_default=False)
]


@app.command("list")
def list_(rules: RuleFile = None, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Each rule. Its severity, kind, ATT&CK techniques and what it looks for."""
    from streamer.enrich.rules import load_rules

    table = load_rules(rules).table()
    if as_json:
        typer.echo(orjson.dumps(table, option=orjson.OPT_INDENT_2).decode())
        return
    from rich.console import Console

    rows = [(r["name"], r["severity"] or "", r["kind"], " ".join(r["attack"]), r["title"]) for r in table]
    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        _show(console, rows)
        return
    for row in rows:
        typer.echo("\t".join(row))


def _show(console: "Console", rows: list[tuple[str, str, str, str, str]]) -> None:
    """A table as wide as the terminal: what says least gives way first, a name never."""
    from rich.table import Table

    narrow = console.width < WIDE
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    shown.add_column("rule", no_wrap=True)
    shown.add_column("severity", no_wrap=True)
    if not narrow:
        shown.add_column("kind", no_wrap=True)
        shown.add_column("ATT&CK", max_width=32)
    shown.add_column("what", ratio=1)
    for name, severity, kind, attack, title in rows:
        shown.add_row(name, severity, *(() if narrow else (kind, attack)), title)
    console.print(shown)


@app.command()
def test(rules: RuleFile = None) -> None:
    """Run the tests that the rules carry. Exit 1 if one fails."""
    from streamer.cli.checking import decode_for_tests
    from streamer.enrich.rules import load_rules

    results = load_rules(rules).run_tests(decode_for_tests)
    failed = [result for result in results if not result.passed]
    for result in failed:
        for problem in result.problems:
            typer.echo(f"{result.rule}, test {result.test}: {problem}")
    typer.echo(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    if failed:
        raise typer.Exit(1)


@app.command()
def sigma(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    rules: Annotated[Path | None, typer.Option("--rules", help="A rule file; the built-in rules without one.")] = None,
) -> None:
    """Export the rules that need no memory as Sigma rules, a file each."""
    from streamer.enrich.rules import load_rules, to_sigma, why_not
    from streamer.errors import ConfigError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for rule in load_rules(rules).rules:
            if (reason := why_not(rule)) is not None:
                typer.echo(f"{rule.name}: left out: {reason}")
                continue
            (folder / f"{rule.name}.yml").write_text(to_sigma(rule), "utf-8")
            typer.echo(f"{rule.name}: {folder / rule.name}.yml")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from None
