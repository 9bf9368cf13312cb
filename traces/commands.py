"""The `vsim trace` commands."""

import typer


def register(app: typer.Typer) -> None:
    """Add the `trace` commands to the application."""
    trace = typer.Typer(help="Import, inspect and generate traces.", no_args_is_help=True)
    app.add_typer(trace, name="trace")

    @trace.command()
    def info(file: str) -> None:
        """Say what a trace holds."""
