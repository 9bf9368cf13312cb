"""The `vsim` command: assembles the commands that each package owns."""

import sys
from collections.abc import Mapping
from typing import Any


def main() -> None:
    """Run the command line; a fault in the input ends with exit code 2 and one line a fault."""
    import typer

    from vsim.sim.commands import command_line as sim_commands
    from vsim.traces import commands as trace_commands
    from vsim.traces import record_command
    from vsim.traces.faults import InputError

    app = typer.Typer(
        name="vsim",
        help="Simulate, bound and replay tiered GPU memory for LLM KV caches.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    sim_commands.register(app, show=_show_summary)
    trace_commands.register(app)
    record_command.register(app)
    try:
        app()
    except InputError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        raise SystemExit(2) from None


def _show_summary(summary: Mapping[str, Any], out: str | None) -> None:
    from vsim.reports.terminal import show_summary

    show_summary(summary, out)


if __name__ == "__main__":
    main()
