"""What the commands have in common: their options, the look of a progress bar, one line for every mistake."""

import math
import os
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from typer.core import TyperCommand, TyperGroup

from .. import weights
from ..devices import best_device
from ..files import UserError

BAR = "{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left{postfix}"


def number(kind: type, least: int = -(2**63), *names: str, most: int = 2**63, help: str,
           panel: str | None = None) -> object:  # fmt: skip
    """An option that takes a number; unlike typer's own, its error says what came."""

    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or value == 2**63:
            wanted = ("a whole number" if kind is int else "a finite number") + f" from {least}" * (least >= 0)
            wanted += f" to {most}" * (most < 2**63)
            raise typer.BadParameter(f"got {text!r}; expected {wanted}")
        return value

    metavar = "INTEGER" if kind is int else "NUMBER"
    return typer.Option(*names, parser=parse, metavar=metavar, help=help, rich_help_panel=panel)


Prompt = Annotated[str, typer.Argument(help='Say "a large red circle on a white background".')]
Model = Annotated[str, typer.Option(help="A shipped model's name, or a folder.")]
Steps = Annotated[int, number(int, 1, help="Steps of the sampler, 1 to 1000.")]
Scale = Annotated[float, number(float, help="Guidance: 0 ignores the prompt, 1 is none, more obeys it more.")]
Sampler = Annotated[str, typer.Option(help="ddim, ddpm, euler, heun, dpmpp_2m or pndm.")]
Seed = Annotated[int, number(int, 0, help="The same seed draws the same again.")]


def warn(text: str) -> None:
    """A warning as one line on stderr."""
    typer.echo(f"warning: {text}", err=True)


@contextmanager
def stopping() -> Iterator[None]:
    """SIGTERM, which clusters send some seconds before they kill, is a `KeyboardInterrupt` too, with its number."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def again(context: typer.Context) -> str:
    """The command line that was given, with --resume: what goes on with a run that was stopped."""
    words = [context.find_root().info_name, *context.obj["words"]]
    words += ["--resume"] * ("--resume" not in words)
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


class OneLine(TyperGroup):
    """Typer's group of commands, but for every mistake it prints one line, whoever noticed it."""

    def main(self, args=None, *more, **extra):
        words = list(sys.argv[1:] if args is None else args)
        if hasattr(sys.stdout, "reconfigure"):  # a name or prompt that this terminal cannot write is no reason to stop
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            with warnings.catch_warnings():  # ours are told in the command line's own way, each once
                warnings.filterwarnings("default", category=UserWarning, module=r"minildm\.")
                warnings.showwarning = lambda message, *_, **__: warn(str(message))
                code = super().main(args, *more, **extra | {"standalone_mode": False, "obj": {"words": words}})
        except UserError as error:
            message = str(error)
        except typer.BadParameter.__base__ as error:  # any wrong use of arguments and options
            message = error.format_message()
        else:
            sys.exit(code if isinstance(code, int) else 0)
        typer.echo("error: " + " ".join(message.split()), err=True)
        sys.exit(2)


class Manual(TyperCommand):
    """A command whose help has its options in sections, and below them text that stays as it was written."""

    def format_options(self, ctx, formatter):
        sections = {}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                usual = "Arguments" if param.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        for name, rows in sections.items():
            with formatter.section(name):
                formatter.write_dl(rows)

    def format_epilog(self, ctx, formatter):
        formatter.write(f"\n{self.epilog.strip()}\n")


def loaded(name: str | Path) -> torch.nn.Module:
    """The model of a name or folder, on this machine's best device."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # a small model is there at once
    return weights.load(name, best_device())
