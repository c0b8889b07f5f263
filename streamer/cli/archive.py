"""verify, keygen: the archive and its proof."""

from pathlib import Path
from typing import Annotated

import typer


def verify(
    path: Annotated[str, typer.Argument(help="The archive: a folder, or s3://bucket/prefix.")],
    key: Annotated[Path | None, typer.Option("--key", help="A file with the trusted public keys (PEM).")] = None,
    anchor: Annotated[
        str | None,
        typer.Option("--anchor", help="NUMBER:SHA256 of a manifest, kept elsewhere, that the chain must hold."),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also decompress every object and count its events.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Whether an archive is whole. Every hash, the chain of manifests and signatures, gaps, missing and foreign files. Exit 1 if not."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from streamer.sinks.archive.report import show_json, show_text
    from streamer.sinks.archive.verify import verify as verify_archive

    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(binary_units=True))
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def show(done: int, whole: int) -> None:
            progress.update(task, completed=done, total=whole)

        report = verify_archive(path, key, show, anchor=anchor, deep=deep)
    typer.echo(show_json(report) if as_json else show_text(report))
    if not report.whole:
        raise typer.Exit(1)


def keygen(
    path: Annotated[Path, typer.Argument(help="Where the private key goes; the public one goes to PATH.pub.")],
) -> None:
    """A new Ed25519 key for the archive's manifests."""
    from streamer.sinks.archive.signing import keygen as make

    typer.echo(
        f"{path} and {path}.pub written, fingerprint {make(path)}; keep the first secret, give the second to auditors"
    )
