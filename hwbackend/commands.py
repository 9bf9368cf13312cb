"""The commands of the hardware backend, as they stand on the command line."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the hardware backend's commands to the application."""

    @app.command()
    def replay(
        source: Annotated[
            str,
            typer.Argument(
                help="A scenario (YAML), a trace of requests or of attention, or what "
                "`vsim run --out` wrote with --set output.operations=all."
            ),
        ],
        gpu: Annotated[
            bool, typer.Option("--gpu", help="On this computer's GPUs, not on simulated time.")
        ] = False,
        mode: Annotated[
            str,
            typer.Option(
                help="plan: carry out what was decided in simulation; live: the engine decides "
                "again, on measured time."
            ),
        ] = "plan",
        machine: Annotated[
            str | None, typer.Option(help="Predict for this machine instead (name or YAML).")
        ] = None,
        hbm: Annotated[
            str | None, typer.Option(metavar="BYTES", help="HBM that KV may take, as 8GiB.")
        ] = None,
        window: Annotated[
            str | None, typer.Option(help="Only so much of the trace, from its start, as 60s.")
        ] = None,
        stand_in: Annotated[
            list[str] | None,
            typer.Option(metavar="TIER=OTHER", help="Let a tier of the machine stand in for one."),
        ] = None,
        repeats: Annotated[
            int, typer.Option(min=1, max=100, help="Carry a plan out so often.")
        ] = 1,
        verify: Annotated[
            bool, typer.Option("--verify", help="Check pages' content after all copies.")
        ] = False,
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Override a field; may be repeated."),
        ] = None,
        out: Annotated[
            str | None,
            typer.Option(help="Write summary.json and the measured operations to this folder."),
        ] = None,
    ) -> None:
        """Carry out what a run predicts, and hold predicted times against measured ones."""
        from vsim.hwbackend.replay.command import WRONG, run_replay
        from vsim.hwbackend.replay.options import read_options

        options = read_options(
            mode=mode,
            window=window,
            stand_ins=stand_in or (),
            repeats=repeats,
            gpu=gpu,
            verify=verify,
            hbm=hbm,
        )
        try:
            run_replay(source, options, overrides=set_ or (), machine=machine, hbm=hbm, out=out)
        except WRONG as error:
            typer.echo(f"--verify: {error}", err=True)
            raise typer.Exit(1) from None
