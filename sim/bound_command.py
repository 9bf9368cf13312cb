"""The `vsim bound` command."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add `vsim bound` to the application."""

    @app.command()
    def bound(
        scenario: Annotated[
            str | None, typer.Argument(help="Placement scenario (YAML); or give --attention.")
        ] = None,
        attention: Annotated[
            list[str] | None,
            typer.Option(help="Attention trace (Arrow); several are decoded in one batch."),
        ] = None,
        hbm_share: Annotated[
            str | None, typer.Option(help="Share of all pages that HBM holds [0.25].")
        ] = None,
        sparsity: Annotated[
            str | None, typer.Option(help="Share of the pages that a step leaves out [0.8].")
        ] = None,
        hbm_bandwidth: Annotated[
            str | None, typer.Option(help="Read bandwidth of HBM [5TB/s].")
        ] = None,
        slow_bandwidth: Annotated[
            str | None, typer.Option(help="Bandwidth to the slow tier, each way [500GB/s].")
        ] = None,
        weights: Annotated[
            str | None, typer.Option(help="HBM traffic of a step beside pages, such as 16GB [0].")
        ] = None,
        start: Annotated[
            str | None, typer.Option(help="first-fill, empty or free [first-fill].")
        ] = None,
        policy: Annotated[
            list[str] | None, typer.Option(help="Run this policy; may be repeated [all].")
        ] = None,
        mip_seconds: Annotated[
            str | None,
            typer.Option(help="Let the LP rounding search for whole pages this long [0]."),
        ] = None,
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Override a field; may be repeated."),
        ] = None,
        json_: Annotated[
            str | None, typer.Option("--json", metavar="FILE", help="Write the results as JSON.")
        ] = None,
        out: Annotated[
            str | None, typer.Option(help="Write each policy's schedule to this folder (Arrow).")
        ] = None,
    ) -> None:
        """Compare placement policies with the best that any policy could do, with a proof."""
        from vsim.sim.placement.run import run_bound

        fields = {
            "memory.hbm_share": hbm_share,
            "selection.sparsity": sparsity,
            "memory.hbm_bandwidth": hbm_bandwidth,
            "memory.slow_bandwidth": slow_bandwidth,
            "memory.weights": weights,
            "memory.start": start,
            "mip_seconds": mip_seconds,
        }
        overrides = [f"{key}={value}" for key, value in fields.items() if value is not None]
        run_bound(
            scenario,
            attention=attention or (),
            policies=policy or (),
            overrides=[*overrides, *(set_ or ())],
            json_file=json_,
            out=out,
        )
