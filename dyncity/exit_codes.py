"""How a command ends: one line on stderr and an exit code, whatever went wrong.

0 done; 1 the work ended and something in it failed or was found damaged; 2 bad input; 130 interrupted; 143 told to
end (SIGTERM: a node that is taken away, a job that is stopped).
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import traceback
from typing import Any, NoReturn

import typer

from dyncity.errors import InputError, one_line
from dyncity.places import without_credentials

INTERRUPTED, TERMINATED = 130, 143
RESUMABLE = ("generate", "edit", "import", "export", "train")
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # which module it lies in depends on the version


def run(app: typer.Typer, arguments: list[str] | None = None) -> NoReturn:
    """Run the application and leave with its exit code.

    Args:
        app: the application.
        arguments: words of the command line; None takes those of this process. No words ask for help.
    """
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    for word in arguments:  # bytes that are no text: Parquet, manifests and tables could not name such a file
        if not word.isascii() and any("\ud800" <= c <= "\udfff" for c in word):
            _leave(f"error: {word}: it is not UTF-8; choose another name", 2)
    # As Ray has it for its drivers: what is committed is recorded, locks and leases are given up.
    before = signal.signal(signal.SIGTERM, _told_to_end)
    try:
        code = app(args=arguments, prog_name="dyncity", standalone_mode=False)
    except InputError as error:
        _leave(f"error: {error}", 2)
    except UsageError as error:
        _leave(f"error: {_usage(error)}", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED  # versions of typer differ: some return the code themselves
    except SystemExit as ended:
        if ended.code != signal.SIGTERM:
            raise
        code = TERMINATED
    except MemoryError as error:
        if os.environ.get("DYNCITY_TRACEBACK"):
            traceback.print_exc()
        _leave(f"error: memory: this process was given no more ({error}); do less at a time, or on a larger machine", 2)
    except OSError as error:
        if os.environ.get("DYNCITY_TRACEBACK"):
            traceback.print_exc()
        found = f"{error.filename or 'the system'}: {error.strerror or error}"
        _leave(f"error: {found}; free space, or give a place that can be written", 2)
    finally:
        signal.signal(signal.SIGTERM, before)
    if code in (INTERRUPTED, TERMINATED):
        _leave(f"{'interrupted' if code == INTERRUPTED else 'ended'}; go on with: {_again(arguments)}", code)
    raise SystemExit(code or 0)


def _told_to_end(number: int, frame: object) -> NoReturn:
    """Begin to end; who says so again would only break off the recording of what is committed."""
    signal.signal(number, lambda number, frame: None)
    sys.exit(number)


def _leave(line: str, code: int) -> NoReturn:
    typer.echo(without_credentials(one_line(line)), err=True)
    raise SystemExit(code)


def _usage(error: Any) -> str:
    """A usage error of typer as ``<option>: <what was found>; <what to do>``."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    path = context.command_path if context is not None else "dyncity"
    option = getattr(error, "option_name", None)
    if option is None and parameter is not None:
        option = parameter.opts[-1] if parameter.param_type_name == "option" else parameter.metavar
    if option is not None and (said := _of_value(error)):
        return f"{option}: {said}"
    found = error.format_message().strip().rstrip(".")
    return f"{option or path}: {found[:1].lower()}{found[1:]}; see {path} --help"


def _of_value(error: Any) -> str | None:
    """What is wrong with a value, where typer had it checked by pydantic, which leaves out what was found."""
    list_errors = getattr(error.__cause__ or error.__context__, "errors", None)
    if not callable(list_errors):
        return None
    first = list_errors()[0]
    own = first.get("ctx", {}).get("error")
    if isinstance(own, InputError):
        return str(own)
    asked = first["msg"].partition(",")[0].replace("Input should be", "give what is")
    return f"found {first['input']!r}; {asked}"


def _again(arguments: list[str]) -> str:
    """What to type to go on with an interrupted command."""
    words = [a for a in arguments if a != "--overwrite"]
    if words[:1] and words[0] in RESUMABLE and not {"--resume", "--repair", "--dry-run"} & set(words):
        words.append("--resume")
    return shlex.join(["dyncity", *words])
