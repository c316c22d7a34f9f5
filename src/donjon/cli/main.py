"""The command `donjon`: gathers the command groups and maps errors to exit codes, once."""

from __future__ import annotations

import os
import sys

from donjon.core.errors import DonjonError
from donjon.version import __version__

_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:  # before anything slow is imported
        sys.stdout.write(f"donjon {__version__}\n")
        sys.exit(0)
    try:
        from donjon.cli.process import protect_memory

        protect_memory()
        code = run(arguments)
    except KeyboardInterrupt:  # also while modules are imported
        sys.stderr.write("donjon: interrupted\n")
        code = _INTERRUPTED
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line; the exit code. Raises ``KeyboardInterrupt`` alone."""
    import io

    from donjon.cli.output import report_error

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names need not fit the terminal's encoding
    try:
        code = _run_commands(arguments)
        sys.stdout.flush()
        return code
    except DonjonError as error:
        if os.environ.get("DONJON_DEBUG"):
            _trace(error)
        report_error(error)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not complain when it closes the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        _trace(error)
        sys.stderr.write("donjon: this is a fault of Donjon; please report it with the lines above\n")
        return 1


def _trace(error: Exception) -> None:
    """Where the error came from: without the values of variables, as some of them are keys."""
    import traceback

    from donjon.cli.output import printable
    from donjon.core.secrecy import redacted

    sys.stderr.write(printable(redacted("".join(traceback.format_exception(error)))))


def _run_commands(arguments: list[str]) -> int:
    from typer import Abort, Exit, TyperException

    from donjon.cli.commands import application

    if "_DONJON_COMPLETE" in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
    try:
        code = application(arguments)(arguments, prog_name="donjon", standalone_mode=False)
    except TyperException as error:
        sys.stderr.write(f"donjon: {error.format_message()}\n")
        return 2
    except Exit as error:
        return error.exit_code
    except Abort as error:
        raise KeyboardInterrupt from error
    if code == _INTERRUPTED:  # typer makes a code of the exception
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0
