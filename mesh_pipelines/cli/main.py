"""The ``mesh`` command: collects the verbs and runs one of them.

The verbs stand in one file a group. Each imports what it needs when it runs, so that ``mesh --help`` takes a tenth of a
second and not four. The exit code is 0 when all went well, 1 when a promise does not hold, 2 for wrong use, 3 when
something outside is not as needed.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import Annotated

import typer

from mesh_pipelines.cli import creating, discovering, exchanging, operating, repairing, running
from mesh_pipelines.cli.output import Output
from mesh_pipelines.cli.program import app
from mesh_pipelines.collector import collect_rarely
from mesh_pipelines.confidential import masked
from mesh_pipelines.errors import MeshError
from mesh_pipelines.lake.storage import fault_of

__all__ = ["app", "invoke", "main"]

# Verbs join the program when their module is imported.
_VERBS = (discovering, creating, exchanging, running, repairing, operating)

_INTERRUPTED = 130


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("mesh-pipelines"))
        raise typer.Exit


def invoke(arguments: list[str] | None = None) -> int:
    """Run the command; every intended error becomes a line on stderr and an exit code."""
    try:
        app(args=arguments)
    except MeshError as error:
        Output().error(error)
        return error.exit_code
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:
        Output().err.print("interrupted: what was committed stays, run the same command to go on from there")
        return _INTERRUPTED
    except BrokenPipeError:
        _leave_output()
        return 0
    except Exception as error:
        if os.environ.get("MESH_DEBUG"):
            sys.stderr.write(masked(traceback.format_exc()))
            return 1
        if fault := fault_of(error):
            Output().error(fault)
            return fault.exit_code
        Output().err.print(
            f"M000 unexpected: {type(error).__name__}: {masked(str(error))}\n  next: MESH_DEBUG=1 shows where",
            markup=False,
        )
        return 1
    return 0


def _open_closed() -> None:
    """Give a process that was started with closed outputs some: a file that it opens would get their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8"))


def _leave_output() -> None:
    """Let what is still to be written go nowhere: whoever read it has had enough."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        with suppress(OSError):
            os.dup2(nowhere, number)


def main() -> None:
    """The console script."""
    collect_rarely()
    _open_closed()
    code = invoke()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        # Who read it has gone, or its disk is full: there is nobody to tell.
        _leave_output()
    # Leave without tearing the interpreter down: DuckDB's bindings report what other libraries still hold at that point
    # as leaks, dozens of lines that mean nothing to the user.
    os._exit(code)
