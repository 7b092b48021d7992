"""completion."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice([*_SHELLS]))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete mgnas's commands and options.

    \b
    bash:  mgnas completion bash >> ~/.bashrc
    zsh:   mgnas completion zsh >> ~/.zshrc
    fish:  mgnas completion fish > ~/.config/fish/completions/mgnas.fish
    """
    cli = click.get_current_context().find_root().command
    click.echo(_SHELLS[shell](cli, {}, "mgnas", "_MGNAS_COMPLETE").source())
