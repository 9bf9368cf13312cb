"""The commands of the hardware backend, as they stand on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vsim.sim.commands.options import Overrides

_FOLLOWING = {"allow_interspersed_args": False}  # what follows COMMAND is COMMAND's


def register(app: typer.Typer, record: typer.Typer) -> None:
    """Add the hardware backend's commands to the application, and one to its `record` commands."""
    _register_replay(app)
    _register_preload(app)

    @record.command(context_settings=_FOLLOWING)
    def allocations(
        out: Annotated[Path, typer.Option(help="Arrow file to write.")],
        command: Annotated[
            list[str], typer.Argument(metavar="COMMAND...", help="What to run, after --.")
        ],
    ) -> None:
        """Run a program and record its allocations of GPU memory, through the preload library.

        Writes a trace of the schema `allocations`, also when the program fails or is stopped; then
        the exit code is 1.
        """
        from vsim.hwbackend.preload.command import record_allocations

        code = record_allocations(command, out)
        if code:
            typer.echo(f"`{command[0]}` ended with exit code {code}", err=True)
            raise typer.Exit(1)


def _register_preload(app: typer.Typer) -> None:
    preload = typer.Typer(
        help="Put a VMM allocator under unmodified programs.", no_args_is_help=True
    )
    app.add_typer(preload, name="preload")

    @preload.callback()
    def group() -> None:
        """Put a VMM allocator under unmodified programs, through LD_PRELOAD."""

    @preload.command()
    def build(
        out: Annotated[
            Path | None,
            typer.Option(help="File to build; without it, where `vsim preload run` finds it."),
        ] = None,
    ) -> None:
        """Build libvsim_preload.so with the C compiler; CUDA is not needed."""
        from vsim.hwbackend.preload.command import build

        typer.echo(build(out))

    @preload.command(context_settings=_FOLLOWING)
    def run(
        command: Annotated[
            list[str], typer.Argument(metavar="COMMAND...", help="What to run, after --.")
        ],
        mode: Annotated[
            str,
            typer.Option(help="record: only note allocations; manage: serve them as well."),
        ] = "manage",
        spill: Annotated[
            str | None,
            typer.Option(help="Where blocks may go that find no room: peer, host or peer,host."),
        ] = None,
        pool: Annotated[
            str | None,
            typer.Option(
                metavar="BYTES",
                help="Free memory kept at most on a device, as 4GiB; a quarter of it without this.",
            ),
        ] = None,
        out: Annotated[
            Path | None, typer.Option(help="Write a trace of the allocations, an Arrow file.")
        ] = None,
    ) -> None:
        """Run a program under the library; ends with the program's exit code."""
        from vsim.hwbackend.preload.command import read_run_options, run_command

        raise typer.Exit(run_command(read_run_options(mode, spill, pool, out), command))


def _register_replay(app: typer.Typer) -> None:

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
        disk: Annotated[
            str | None,
            typer.Option(metavar="FOLDER", help="Keep an NVMe tier's pages on this local disk."),
        ] = None,
        set_: Overrides = None,
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
            disk=disk,
        )
        try:
            run_replay(source, options, overrides=set_ or (), machine=machine, hbm=hbm, out=out)
        except WRONG as error:
            typer.echo(f"--verify: {error}", err=True)
            raise typer.Exit(1) from None
