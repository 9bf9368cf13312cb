"""The `vsim run`, `vsim bound` and `vsim schema` commands."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

Show = Callable[[Mapping[str, Any], str | None], None]
"""Prints a summary, and the folder it was written to if there is one."""


def register(app: typer.Typer, show: Show | None = None) -> None:
    """Add the simulator's commands to the application.

    Args:
        app: the application.
        show: how a summary is printed; left out, as JSON.
    """

    @app.command()
    def run(
        scenario: Annotated[str, typer.Argument(help="Scenario file (YAML).")],
        trace: Annotated[
            str | None,
            typer.Option(help="Take the requests, or the attention, from this trace instead."),
        ] = None,
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Override a field; may be repeated."),
        ] = None,
        out: Annotated[
            str | None, typer.Option(help="Write summary.json and the tables to this folder.")
        ] = None,
    ) -> None:
        """Simulate a scenario and print where the time went."""
        from vsim.sim.run_command import run_scenario

        summary = run_scenario(scenario, trace=trace, overrides=set_ or (), out=out)
        if show is None:
            import json

            typer.echo(json.dumps(summary, indent=1))
        else:
            show(summary, out)

    @app.command()
    def schema() -> None:
        """Print the JSON schema of scenario files."""
        from vsim.sim.scenario import schema_text

        typer.echo(schema_text(), nl=False)
