"""``bottleneck completion``: the script a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_WHERE = {
    "bash": 'eval "$(bottleneck completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(bottleneck completion zsh)"   in ~/.zshrc',
    "fish": "bottleneck completion fish > ~/.config/fish/completions/bottleneck.fish",
}


@click.command(epilog="\b\nTo keep it:\n  " + "\n  ".join(_WHERE.values()))
@click.argument("shell", type=click.Choice(list(_WHERE)))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete commands and options."""
    from .main import bottleneck

    script = get_completion_class(shell)
    assert script is not None  # click knows each shell of the choice
    click.echo(script(bottleneck, {}, "bottleneck", "_BOTTLENECK_COMPLETE").source())
