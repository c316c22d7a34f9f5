"""`donjon completion`: let the shell complete commands and options."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from donjon.cli.common import JsonOption, output

EPILOG = """\b
Examples:
  donjon completion bash > /etc/bash_completion.d/donjon
  donjon completion zsh > ~/.zfunc/_donjon
  donjon completion fish > ~/.config/fish/completions/donjon.fish

\b
JSON: {"shell", "script"}."""


class Shell(StrEnum):
    """The shells that are known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="Which shell.")],
    json: JsonOption = False,
) -> int:
    """Print a script that lets a shell complete the commands and options of donjon."""
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="donjon", complete_var="_DONJON_COMPLETE", shell=shell.value)
    output(json=json).result({"shell": shell.value, "script": script}, script.rstrip())
    return 0
