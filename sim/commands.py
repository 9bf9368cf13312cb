"""The `vsim run`, `vsim bound` and `vsim schema` commands."""

import typer


def register(app: typer.Typer) -> None:
    """Add the simulator's commands to the application."""

    @app.command()
    def run(scenario: str) -> None:
        """Simulate a scenario."""
