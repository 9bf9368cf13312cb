"""How `vsim size` stands on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vsim.sim.commands.options import Overrides

if TYPE_CHECKING:
    from vsim.sim.commands.size import Draw


def register(app: typer.Typer, draw: Draw | None = None) -> None:
    """Add the command to the application.

    Args:
        app: the application.
        draw: what draws plots; left out, `--plot` is refused.
    """

    @app.command()
    def size(
        scenario: Annotated[str, typer.Argument(help="Scenario file (YAML).")],
        slo: Annotated[
            str | None,
            typer.Option(
                metavar="PROMISES",
                help="ttft_p99=2s,tpot_p99=50ms (ttft, tpot, itl, e2e; mean, p50, p90, p95, p99),"
                " or of each request ttft=2s,tpot=50ms,attainment=99%. Left out: no search, each"
                " configuration runs at the scenario's own load.",
            ),
        ] = None,
        over: Annotated[
            list[str] | None,
            typer.Option(
                metavar="FIELD=VALUES",
                help="Vary fields: tiers.1.capacity=0..1TiB (0 leaves the tier out), "
                "machine=h100|h200; may be repeated.",
            ),
        ] = None,
        trace: Annotated[
            str | None, typer.Option(help="Take the requests from this trace instead.")
        ] = None,
        set_: Overrides = None,
        prices: Annotated[
            str | None,
            typer.Option(metavar="FILE", help="Price file (YAML) [the one that comes along]."),
        ] = None,
        warm_up: Annotated[
            float | None,
            typer.Option(help="Share of requests that come first and do not count [0]."),
        ] = None,
        processes: Annotated[
            int | None, typer.Option(help="Runs side by side [as many as there are processors].")
        ] = None,
        cluster: Annotated[
            str | None,
            typer.Option(
                metavar="ADDRESS",
                help="Run on this Dask cluster, as tcp://host:8786 (pip install 'vsim[cluster]').",
            ),
        ] = None,
        store: Annotated[
            str | None,
            typer.Option(metavar="DIR", help="Keep runs in this folder [the user's cache]."),
        ] = None,
        json: Annotated[
            str | None, typer.Option(metavar="FILE", help="Write the results as JSON.")
        ] = None,
        out: Annotated[
            str | None, typer.Option(metavar="FILE", help="Write every run to this Arrow table.")
        ] = None,
        plot: Annotated[
            str | None,
            typer.Option(
                metavar="FILE",
                help="Draw cost over goodput to this PNG (pip install 'vsim[plots]').",
            ),
        ] = None,
    ) -> None:
        """Find the highest load that meets an SLO, and what it costs."""
        from vsim.sim.commands.size import SizeOptions, run_size

        options = SizeOptions(
            trace, slo, over or (), prices, set_ or (), warm_up, processes, cluster, store, json,
            out, plot,
        )  # fmt: skip
        run_size(scenario, options, draw)
