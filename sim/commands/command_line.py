"""The simulator's commands: `vsim run`, `vsim bound`, `vsim model` and the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vsim.sim.commands.options import JsonFile, Overrides

if TYPE_CHECKING:
    from vsim.sim.commands.calibrate import GpuCalibration

Show = Callable[[Mapping[str, Any], str | None], None]
"""Prints a summary, and the folder it was written to if there is one."""


def register(
    app: typer.Typer, show: Show | None = None, gpu_calibration: GpuCalibration | None = None
) -> None:
    """Add the simulator's commands to the application.

    Args:
        app: the application.
        show: how a summary is printed; left out, as JSON.
        gpu_calibration: what measures GPUs; left out, `calibrate --gpu` is refused.
    """

    @app.command()
    def run(
        scenario: Annotated[str, typer.Argument(help="Scenario file (YAML).")],
        trace: Annotated[
            str | None,
            typer.Option(help="Take the requests, or the attention, from this trace instead."),
        ] = None,
        set_: Overrides = None,
        out: Annotated[
            str | None, typer.Option(help="Write summary.json and the tables to this folder.")
        ] = None,
        bound: Annotated[
            str | None,
            typer.Option(help="What bounds prefix hits: quick, or tight in its own time [quick]."),
        ] = None,
    ) -> None:
        """Simulate a scenario and print where the time went."""
        from vsim.sim.commands.run import run_scenario

        summary = run_scenario(scenario, trace=trace, overrides=set_ or (), out=out, bound=bound)
        if show is None:
            import json

            typer.echo(json.dumps(summary, indent=1))
        else:
            show(summary, out)

    @app.command()
    def schema() -> None:
        """Print the JSON schema of scenario files."""
        from vsim.sim.scenario.scenario import schema_text

        typer.echo(schema_text(), nl=False)

    @app.command()
    def check(
        path: Annotated[
            str | None,
            typer.Argument(help="A recording, a table or a folder of them [all recordings]."),
        ] = None,
        junit: Annotated[
            str | None, typer.Option(metavar="FILE", help="Write the outcome as JUnit XML.")
        ] = None,
        json_: JsonFile = None,
        pacing: Annotated[
            str,
            typer.Option(
                help="arrivals: turns arrive when they did; think_times: after the predicted "
                "answer of the last turn."
            ),
        ] = "arrivals",
    ) -> None:
        """Predict what servers and GPUs took, and fail where errors leave their tolerance."""
        from vsim.sim.commands.check import run_check

        if not run_check(path, junit=junit, json=json_, pacing=pacing):
            raise typer.Exit(1)

    measured = typer.Typer(help="Import runs of real servers.", no_args_is_help=True)
    app.add_typer(measured, name="import")

    @measured.command()
    def vllm(
        paths: Annotated[
            list[str],
            typer.Argument(
                help="vLLM's log, its /metrics (of two, the first from before the run), or what "
                "`vllm bench serve --save-result --save-detailed` saved; all of one server."
            ),
        ],
        out: Annotated[str, typer.Option("--out", help="The Arrow file to write.")],
        name: Annotated[
            str | None, typer.Option(help="What the run is called [as the file].")
        ] = None,
        gpu: Annotated[str | None, typer.Option(help='Which GPU: "NVIDIA H100".')] = None,
        gpus: Annotated[
            int | None, typer.Option(min=1, help="How many [as the server's parallelism says].")
        ] = None,
        model: Annotated[
            str | None, typer.Option(help="The model's name [as the files say].")
        ] = None,
        config: Annotated[
            str | None,
            typer.Option(help="The model's Hugging Face config.json [one of the catalogue]."),
        ] = None,
    ) -> None:
        """Import what a vLLM server logged, counted and answered."""
        from vsim.sim.commands.import_server import run_import_vllm

        run_import_vllm(paths, out=out, name=name, gpu=gpu, gpus=gpus, model=model, config=config)

    models = typer.Typer(help="Look at models.", no_args_is_help=True)
    app.add_typer(models, name="model")

    @models.command("show")
    def show_model(
        config: Annotated[
            str,
            typer.Argument(
                help="A model of the catalogue, a model file (YAML), a Hugging Face config.json, or"
                " its folder."
            ),
        ],
        tokens: Annotated[int, typer.Option(help="Length of a sequence.")] = 131072,
        tensor: Annotated[
            int | None,
            typer.Option(help="GPUs that share each layer [as many as a machine has]."),
        ] = None,
        kv: Annotated[
            str | None, typer.Option(help="Precision of the KV cache [as the model declares].")
        ] = None,
        weights: Annotated[
            str | None, typer.Option(help="Precision of the weights [as the model declares].")
        ] = None,
        profile: Annotated[
            str, typer.Option(help="The engine whose blocks and memory are counted.")
        ] = "vllm",
        transformers: Annotated[
            bool,
            typer.Option(
                "--transformers", help="Count with transformers, too (pip install 'vsim[hf]')."
            ),
        ] = False,
        json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Show what a model takes: parameters, weights, KV by group, and where it fits."""
        from vsim.sim.commands.show_model import run_show_model

        run_show_model(
            config,
            tokens=tokens,
            tensor=tensor,
            kv=kv,
            weights=weights,
            profile=profile,
            as_json=json,
            ask_transformers=transformers,
        )

    @app.command()
    def compare(
        run: Annotated[
            str, typer.Argument(help="A result folder of `vsim run --out`, or a scenario (YAML).")
        ],
        real: Annotated[
            str, typer.Argument(help="A recording, an imported server, or a table of requests.")
        ],
        set_: Overrides = None,
        json_: JsonFile = None,
    ) -> None:
        """Hold a prediction against what a real server measured."""
        from vsim.sim.commands.compare import run_compare

        run_compare(run, real, overrides=set_ or (), json_file=json_)

    @app.command()
    def bound(
        scenario: Annotated[
            str | None,
            typer.Argument(
                help="Placement scenario (YAML), or give --attention; with --capacity: a trace of "
                "requests."
            ),
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
        set_: Overrides = None,
        json_: JsonFile = None,
        out: Annotated[
            str | None, typer.Option(help="Write each policy's schedule to this folder (Arrow).")
        ] = None,
        capacity: Annotated[
            str | None,
            typer.Option(
                metavar="SIZES",
                help="Prefix caches of these sizes: 16GiB,64GiB; or over tiers: "
                "hbm=16GiB+host=64GiB,hbm=16GiB+host=128GiB:fp8.",
            ),
        ] = None,
        capacity_blocks: Annotated[
            str | None,
            typer.Option(metavar="BLOCKS", help="The same in blocks of the trace: 1000,5000."),
        ] = None,
        model: Annotated[
            str | None, typer.Option(help="With --capacity: whose KV, and whose prefill is saved.")
        ] = None,
        machine: Annotated[
            str | None,
            typer.Option(help="With --capacity: prefill in seconds of this machine too."),
        ] = None,
        kv: Annotated[
            str | None, typer.Option(help="With --capacity: precision of the KV [bf16].")
        ] = None,
        loads: Annotated[
            str | None,
            typer.Option(help="With tiers: requests wait for loads, or they overlap [wait]."),
        ] = None,
    ) -> None:
        """Compare policies with the best that any policy could do, with a proof.

        Placement of pages in two or more tiers while attention reads them; or, with --capacity,
        prefix caches of a trace of requests.
        """
        from vsim.sim.commands.bound import run_bound

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
        overrides += set_ or ()
        of_prefixes = {"--model": model, "--machine": machine, "--kv": kv, "--loads": loads}
        if capacity is not None or capacity_blocks is not None:
            from vsim.sim.commands.bound_prefixes import PrefixBoundOptions, run_bound_prefixes

            of_placement = {"--attention": attention, "--out": out, "--set": set_}
            of_placement |= {f"--{key.split('.')[-1]}": value for key, value in fields.items()}
            _refuse_given(of_placement, "does nothing with --capacity; leave it out")
            run_bound_prefixes(
                scenario,
                PrefixBoundOptions(
                    capacity, capacity_blocks, model, machine, kv, loads, policy or (), json_
                ),
            )
            return
        _refuse_given(of_prefixes, "does nothing without --capacity or --capacity-blocks")
        run_bound(
            scenario,
            attention=attention or (),
            policies=policy or (),
            overrides=overrides,
            json_file=json_,
            out=out,
        )

    @app.command()
    def alloc(
        scenario: Annotated[
            str | None, typer.Argument(help="Scenario of allocators (YAML), or give --trace.")
        ] = None,
        trace: Annotated[
            str | None, typer.Option(help="Recorded allocations (Arrow), in the scenario's place.")
        ] = None,
        model: Annotated[
            list[str] | None,
            typer.Option(
                help="An allocator: first-fit, best-fit, segments, caching, expandable, buddy, "
                "vmm-pool or preload; of sequences kv-paged or kv-ranges; may be repeated [all but "
                "preload and kv]."
            ),
        ] = None,
        capacity: Annotated[
            str | None, typer.Option(help="The GPU's memory, as 80GiB [it never ends].")
        ] = None,
        machine: Annotated[
            str | None, typer.Option(help="Time the driver's calls as on this machine.")
        ] = None,
        device: Annotated[
            int | None, typer.Option(min=0, help="The GPU of the trace [its only one].")
        ] = None,
        growth: Annotated[
            bool,
            typer.Option("--growth", help="With --machine: copying against mapping more."),
        ] = False,
        again: Annotated[
            int | None,
            typer.Option(
                min=1,
                help="The recording ends with a call that failed: make it so often, as its program "
                "would have gone on.",
            ),
        ] = None,
        set_: Overrides = None,
        json_: JsonFile = None,
        out: Annotated[
            str | None, typer.Option(help="Write what each allocator held to this folder (Arrow).")
        ] = None,
    ) -> None:
        """Replay a program's allocations through allocators: reserved bytes, failures, time."""
        from vsim.sim.commands.alloc import AllocOptions, run_alloc

        options = AllocOptions(
            trace, model or (), capacity, machine, device, growth, again, set_ or ()
        )
        run_alloc(scenario, options, json_file=json_, out=out)

    @app.command()
    def calibrate(
        out: Annotated[
            str,
            typer.Option(help="Machine file (YAML) to write; tables go beside it (Arrow)."),
        ],
        from_: Annotated[
            str | None,
            typer.Option(
                "--from",
                metavar="SOURCE",
                help="aiconfigurator:GPU, as h100_sxm, or samples:FILE of an earlier --gpu.",
            ),
        ] = None,
        gpu: Annotated[
            bool, typer.Option("--gpu", help="Measure the GPU that is here; minutes.")
        ] = False,
        quick: Annotated[
            bool, typer.Option("--quick", help="With --gpu: a few points of each kind only.")
        ] = False,
        disk: Annotated[
            str | None,
            typer.Option(
                metavar="FOLDER",
                help="With --gpu: a folder on a local disk, measured as the NVMe tier.",
            ),
        ] = None,
        stack: Annotated[
            list[str] | None,
            typer.Option(help="Of aiconfigurator: vllm, sglang or trtllm; may be repeated [vllm]."),
        ] = None,
    ) -> None:
        """Write a machine file from measured times of kernels, and say how good they are."""
        from vsim.sim.commands.calibrate import calibrate_from

        calibrate_from(from_, out, stack, on_gpu=gpu, quick=quick, disk=disk, gpu=gpu_calibration)


def _refuse_given(options: Mapping[str, object], message: str) -> None:
    """Refuse options that were given and can do nothing."""
    from vsim.traces.faults import Fault, InputError

    given = [name.replace("_", "-") for name, value in options.items() if value]
    if given:
        raise InputError(Fault(name, message) for name in given)
