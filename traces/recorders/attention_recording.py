"""`vsim record attention`: read a prompt, record a decode, write it, and measure selections."""

import hashlib
import json
import os
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from vsim.traces.attention import MASS, AttentionTrace, write_attention
from vsim.traces.faults import Fault, InputError, refuse
from vsim.traces.recorders.code_loss import CodeLoss, code_losses, compared_selections
from vsim.traces.recorders.model import Model
from vsim.traces.recorders.recording import (
    QUEST,
    Decode,
    Decoding,
    Keeping,
    attention_of,
    record_decode,
)
from vsim.traces.recorders.selection_cost import SelectionCost, selection_costs
from vsim.traces.selection import Selection, SlidingWindow, TopMass, TopShare
from vsim.traces.writing import FreshFile, check_apart, file_target, fresh_file

COSTS = "selection_costs"


@dataclass(frozen=True, slots=True)
class Options:
    """What to record; each field is an option of the command."""

    prompt: Path
    out: Path
    steps: int
    model: str
    weights: Path | None
    device: str
    prompt_tokens: int | None
    decoding: Decoding
    page_tokens: int
    keeping: Keeping
    floats: bool
    cost: Path | None
    source: str
    licence: str
    by_page: bool = False


_SPARSITIES = (0.6, 0.7, 0.8, 0.9)


def measured_selections(context_pages: int) -> tuple[Selection, ...]:
    """Choose what is measured on the model: sparsities by both scores, by mass, by place."""
    return (
        *(TopShare(sparsity, score) for score in (MASS, QUEST) for sparsity in _SPARSITIES),
        TopMass(0.9),
        TopMass(0.95),
        # as many pages as 80 % sparsity reads, without looking at the attention
        SlidingWindow(1, max(1, context_pages // 5 - 1)),
    )


def record_attention(options: Options) -> None:
    """Record and write; see `register` for the options. Raises InputError."""
    _check(options)
    inputs = [path for path in (options.prompt, options.weights, Path(options.model)) if path]
    targets = [file_target(options.out, "attention", "--out")]
    if options.cost is not None:
        targets.append(file_target(options.cost, COSTS, "--cost"))
    check_apart(targets)
    with ExitStack() as stack:  # before the work: a recording takes minutes
        out = stack.enter_context(
            fresh_file(options.out, "attention", inputs=inputs, option="--out")
        )
        cost = None
        if options.cost is not None:
            cost = stack.enter_context(
                fresh_file(options.cost, COSTS, inputs=inputs, option="--cost")
            )
        _record(options, out, cost)


def _record(options: Options, out: FreshFile, cost: FreshFile | None) -> None:
    # names are printed as they are: brackets in one are no markup
    console = Console(stderr=True, markup=False)
    model = _load(options)
    prompt, follow = _tokens(options, model)
    with console.status("reading the prompt") as status:
        decode = record_decode(
            model,
            prompt,
            options.steps,
            options.decoding,
            follow=follow,
            page_tokens=options.page_tokens,
            quest=options.floats or options.keeping.quest > 0,
            progress=lambda done: status.update(f"step {done} of {options.steps}"),
        )
        status.update("writing")
        trace = attention_of(
            decode,
            model,
            None if options.floats else options.keeping,
            source=f"{model.shape.name} reading {options.source}",
            licence=options.licence,
            facts=_facts(options, model),
        )
        write_attention(trace, out, pages_first=options.by_page)
    console.print(
        f"{options.out}: {len(prompt)} prompt tokens, {trace.steps} steps, {len(trace)} rows, "
        f"{os.path.getsize(options.out) / 1e6:.2f} MB"
    )
    if cost is not None:
        _measure(options, cost, model, decode, trace, console)


def _measure(
    options: Options,
    cost: FreshFile,
    model: Model,
    decode: Decode,
    trace: AttentionTrace,
    console: Console,
) -> None:
    start = time.perf_counter()
    with console.status("measuring what selections cost") as status:
        costs = selection_costs(
            model,
            decode,
            measured_selections(int(decode.pages[-1])),
            progress=lambda name: status.update(f"measured {name}"),
        )
    losses = [] if options.floats else code_losses(trace, decode, compared_selections(trace))
    _write_costs(options, cost, model, decode, costs, losses)
    console.print(f"{options.cost}: {len(costs)} selections, {time.perf_counter() - start:.0f} s")


def _check(options: Options) -> None:
    faults = []
    keeping = options.keeping
    if not 0 < keeping.mass <= 1:
        faults.append(Fault("--keep", f"{keeping.mass} is not a share; write it like 0.6"))
    if not 0 <= keeping.graded <= 1:
        faults.append(Fault("--graded", f"{keeping.graded} is not a share; write it like 0.4"))
    if not 0 <= keeping.quest <= 1:
        faults.append(Fault("--keep-quest", f"{keeping.quest} is not a share; write it like 0.4"))
    if not 0 < keeping.step <= 8:
        faults.append(Fault("--log-step", f"{keeping.step} is not in (0, 8]; write it like 1"))
    if not options.decoding.temperature > 0:
        message = f"{options.decoding.temperature} is not above 0; use --decode greedy"
        faults.append(Fault("--temperature", message))
    if not 0 < options.decoding.top_p <= 1:
        faults.append(Fault("--top-p", f"{options.decoding.top_p} is not in (0, 1]; write 0.95"))
    for option, path in (("--out", options.out), ("--cost", options.cost)):
        if path is not None and not path.parent.is_dir():
            faults.append(Fault(option, f"{path}: its folder does not exist; make it first"))
    if faults:
        raise InputError(faults)


def _load(options: Options) -> Model:
    if options.model == "smollm2":
        from vsim.traces.recorders.smollm2 import SmolLM2, find_weights

        if options.device != "cpu":
            refuse("--device", f"{options.device!r}: smollm2 runs on the CPU; leave --device out")
        return SmolLM2(find_weights(options.weights))
    folder = Path(options.model)
    if options.weights is not None:
        refuse("--weights", "goes with --model smollm2; a model folder has its own")
    if not (folder / "config.json").is_file():
        refuse("--model", f"{options.model!r} is neither smollm2 nor a folder with a config.json")
    from vsim.traces.recorders.transformers_folder import FolderModel

    return FolderModel(folder, options.device)


def _tokens(options: Options, model: Model) -> tuple[list[int], list[int]]:
    """Split the prompt file into the prompt and, with `text`, the tokens that follow it."""
    try:
        text = options.prompt.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        refuse(str(options.prompt), f"cannot be read as UTF-8 text: {error}")
    tokens = model.encode(text)
    room = options.steps if options.decoding.choice == "text" else 0
    count = len(tokens) - room if options.prompt_tokens is None else options.prompt_tokens
    if count < 1 or count + room > len(tokens):
        refuse(
            str(options.prompt),
            f"has {len(tokens)} tokens, fewer than {max(count, 1)} of prompt and {room} to follow; "
            "lower --tokens or --prompt-tokens",
        )
    return tokens[:count], tokens[count : count + room]


def _facts(options: Options, model: Model) -> dict[str, str]:
    return {
        "model": model.shape.name,
        "weights": model.weights,
        "prompt_sha256": hashlib.sha256(options.prompt.read_bytes()).hexdigest(),
        "decoding": json.dumps(asdict(options.decoding)),
    }


def _write_costs(
    options: Options,
    cost: FreshFile,
    model: Model,
    decode: Decode,
    costs: list[SelectionCost],
    losses: list[CodeLoss],
) -> None:
    document = {
        "recording": options.out.name,
        "model": model.shape.name,
        "prompt_tokens": len(decode.prompt),
        "steps": len(decode.output),
        "page_tokens": decode.page_tokens,
        "selections": [asdict(each) for each in costs],
        "codes": [asdict(loss) for loss in losses],
    }
    cost.write_json(document)
    cost.publish()
