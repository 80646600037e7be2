"""``brewair``: the one command a user types. Each command has a file of its own and a line in ``COMMANDS``."""

from __future__ import annotations

import importlib
import sys

import typer

from domain import __version__
from domain.errors import BrewairError

COMMANDS: dict[str, str] = {
    "adapters": "cli.adapters",
    "admin": "cli.admin",
    "bench": "cli.bench",
    "detect": "cli.detect",
    "judge": "cli.judge",
    "demo": "cli.demo",
    "doctor": "cli.doctor",
    "sim": "cli.sim",
    "portal": "cli.portal",
    "gateway": "cli.gateway",
    "quarantine": "cli.quarantine",
    "spool": "cli.spool",
}
"""Name on the command line → module that holds ``app`` (a Typer); only the module that is asked for is imported."""

USAGE_ERROR = 2


def main(arguments: list[str] | None = None) -> None:
    """Entry point. An expected error is one clear message on stderr and exit status 2, never a stack trace."""
    given = sys.argv[1:] if arguments is None else arguments
    wanted = [given[0]] if given and given[0] in COMMANDS else list(COMMANDS)
    app = typer.Typer(
        name="brewair",
        help="Connected-equipment service portal: a repair is done when the machine says so.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback(invoke_without_command=True)
    def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
        if version:
            typer.echo(__version__)
            raise typer.Exit

    for name in wanted:
        module = importlib.import_module(COMMANDS[name])
        app.add_typer(module.app, name=name)
    try:
        app(given, prog_name="brewair")
    except BrewairError as error:
        for line in str(error).splitlines():
            typer.echo(f"brewair: {line}", err=True)
        raise SystemExit(USAGE_ERROR) from None


if __name__ == "__main__":
    main()
