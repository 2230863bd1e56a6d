"""The commands. This package is the only place where the parts are wired together.

A command imports what is heavy (torch, numba, librdkafka) inside its function, so that `detector --help` answers at once.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from detector import __version__
from detector.cli import (
    alerts,
    check,
    demo,
    evaluate,
    explain,
    inspect,
    replay,
    reset_baseline,
    run,
    schema_command,
    simulate,
    topics,
    train,
)
from detector.errors import DetectorError

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE
DEBUG = "DETECTOR_DEBUG"

app = typer.Typer(
    name="detector",
    help="A streaming anomaly detector over Kafka sensor data: an LSTM memory per stream, alerts to a topic, metrics to Prometheus.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
app.command("run")(run.run)
app.command("inspect")(inspect.inspect)
app.command("check")(check.check)
app.command("alerts")(alerts.alerts)
app.command("reset-baseline")(reset_baseline.reset_baseline)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("replay")(replay.replay)
app.command("evaluate")(evaluate.evaluate)
app.command("explain")(explain.explain)
app.command("simulate")(simulate.simulate)
app.add_typer(topics.app, name="topics")
app.command("schema")(schema_command.schema)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"detector {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help=f"Show where an error came from; {DEBUG}=1 does the same.")] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted. No traceback reaches a user."""
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")  # a terminal that has no degree sign must not end the command
    try:
        app(args=None if arguments is None else list(arguments), prog_name="detector")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except DetectorError as error:
        _print_error(f"error: {error}", f"fix: {error.fix}" if error.fix else "")
        return error.exit_code
    except BrokenPipeError:  # who reads has enough: `detector inspect week.csv | head`
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - nobody reads what Python flushes at its end
        return EXIT_BROKEN_PIPE
    except OSError as error:
        _print_error(f"error: {error.filename or 'the system'}: {error.strerror or error}", f"fix: {_fix(error)}")
        return 1
    except MemoryError:
        _print_error("error: there is not enough memory", "fix: give it more, or less to do: fewer streams, a shorter recording")
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, the user gets one line
        _print_error(
            f"error: {type(error).__name__}: {error}; this is a bug", "" if _debugging() else "fix: run it again with --debug and report it"
        )
        return 1
    return 0


def _fix(error: OSError) -> str:
    """What a person does about an error of the system."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "make room on the disk, or name a file on another one"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "name a file that this user may use, or grant it"
        case errno.ENOENT | errno.ENOTDIR | errno.EISDIR:
            return "see that the path is right and its folder is there"
        case _:
            return "see what the system says of it; --debug shows where it happened"


def _print_error(*lines: str) -> None:
    if _debugging():
        traceback.print_exc()
    for line in filter(None, lines):
        print(line, file=sys.stderr)  # noqa: T201 - standard error is where a command reports


def _debugging() -> bool:
    return os.environ.get(DEBUG, "") not in ("", "0", "false")
