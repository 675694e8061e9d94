"""``bottleneck cache``: where exported networks are kept, and how to be rid of them."""

from __future__ import annotations

from typing import Any

import click

from .options import output_options
from .reply import Reply, answer


@click.group()
def cache() -> None:
    """Look after this user's cache of exported networks. Feature files are yours: never touched."""


@cache.command()
@output_options
def where(**options: Any) -> None:
    """Print the folder and how much is in it."""
    answer("cache where", lambda reporter: _where(), options)


def _where() -> Reply:
    from .. import usercache
    from ..cache.atomic import size

    folder, files = usercache.folder(), usercache.files()
    used = sum(path.stat().st_size for path in files)
    return Reply(
        {"folder": str(folder), "files": len(files), "bytes": used},
        lambda: click.echo(f"{folder}  ({len(files)} files, {size(used)})"),
    )


@cache.command()
@output_options
def clear(**options: Any) -> None:
    """Remove exported networks and what goes with them; they are made again when needed."""
    answer("cache clear", lambda reporter: _clear(), options)


def _clear() -> Reply:
    from .. import usercache
    from ..cache.atomic import size

    count, freed = usercache.clear()
    return Reply(
        {"folder": str(usercache.folder()), "files": count, "bytes": freed},
        lambda: click.echo(f"removed {count} files, {size(freed)}"),
    )
