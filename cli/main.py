"""Entry point: the commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

import click

from mgnas import __version__
from mgnas.errors import SearchStoppedError, UserError, printable

from .commands.completion import completion
from .commands.export import export
from .commands.init import init
from .commands.latency import latency
from .commands.report import report
from .commands.resume import resume
from .commands.retrain import retrain
from .commands.search import search
from .commands.select import select
from .commands.simulate import simulate
from .commands.space import space
from .commands.status import status
from .commands.train import train
from .commands.weights import weights
from .exit_codes import INTERRUPTED, PIPE_CLOSED, STOPPED
from .logging import command_logging


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mgnas")
def cli() -> None:
    """Find multigrid CNNs with the best accuracy at the fewest weights.

    \b
    1. Search
       mgnas init photos/                          write a commented config for a folder of images
       mgnas search photos.yaml                    train candidates, keep them in runs/photos-1
       mgnas status | resume runs/photos-1         watch, continue after Ctrl-C
    2. Look and choose
       mgnas report runs/photos-1                  the Pareto front as a page: open report/report.html
       mgnas select runs/photos-1 --max-weights 20k --max-latency 5
       mgnas latency runs/photos-1 --kit kit       measure on the device that it is for
    3. Train and ship
       mgnas train selected.yaml                   train the choice fully, test it, save it
       mgnas retrain runs/photos-1 --front         or the whole front, each with three seeds
       mgnas export trained/ID --to onnx           for any runtime, verified on real images

    \b
    Without training anything:
       mgnas weights --preset mgnet-cifar10        exact weights and MACs of an architecture
       mgnas space configs/cifar10.yaml            what a search space holds
       mgnas simulate digits --strategy tpe,ehvi   how many epochs searches need, replayed on a table

    No images at hand? `mgnas search configs/digits.yaml` needs none. `mgnas COMMAND --help` explains each command.
    """


for command in (
    init,
    search,
    status,
    resume,
    report,
    latency,
    select,
    train,
    retrain,
    export,
    weights,
    space,
    simulate,
    completion,
):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; returns the exit code.

    0; 1 for a search that had to stop and can go on later, or of which no trial is complete; 2 for bad input; 130 after
    Ctrl-C; 141 for a closed pipe.

    Args:
        arguments: default: those of this process, which may then end here.
    """
    code = _run(arguments)
    if arguments is None and code == INTERRUPTED:
        # All is stored and closed. Threads that Ray leaves if it was interrupted would keep the process alive.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    return code


def _run(arguments: list[str] | None) -> int:
    try:
        with command_logging():
            code = cli.main(arguments, prog_name="mgnas", standalone_mode=False)
    except SearchStoppedError as error:
        _complain(str(error))
        return STOPPED
    except UserError as error:
        return _complain(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help())
        return 2
    except click.ClickException as error:
        return _complain(error.format_message())
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        run = getattr(error.__cause__ or error, "path", None)
        hint = f"; continue with: mgnas resume {printable(run)}" if run else ""
        with contextlib.suppress(OSError):
            click.echo(f"mgnas: interrupted{hint}", err=True)
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):  # Without standalone_mode click exits only when a pipe is closed.
        _drop_output()
        return PIPE_CLOSED
    except OSError as error:
        if error.filename is not None:  # A path that no file system takes, or that may not be looked at.
            return _complain(f"{str(error.filename)[:300]}: cannot be used ({error.strerror})")
        if error.errno not in _OUTPUT_ERRORS:
            raise
        _drop_output()
        return _complain(f"the output cannot be written ({error.strerror}); make room, or write it elsewhere")
    return code if isinstance(code, int) else 0


_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EBADF)


def _drop_output() -> None:
    """Let what is still in the buffer of standard output go nowhere; Python would complain of it when it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str) -> int:
    with contextlib.suppress(OSError):
        click.echo(f"mgnas: error: {printable(' '.join(message.split()))}", err=True)
    return 2
