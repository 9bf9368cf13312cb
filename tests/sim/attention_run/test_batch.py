"""A batch of the first steps is what a batch of all steps holds of them."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from vsim.sim.attention_run.batch import Batch, load_batch
from vsim.sim.placement.reshape import first_steps
from vsim.sim.scenario.scenario import Workload
from vsim.traces.attention import AttentionTrace

from .small import MODEL, trace, write


def batch(folder: Path, traces: list[AttentionTrace], **workload: object) -> Batch:
    names = write(folder, *traces)
    settings = {"attention": names, "selection": {"sparsity": 0.5}, **workload}
    return load_batch(Workload.model_validate(settings), MODEL, "bf16", folder)


def without_newest(found: AttentionTrace, steps: range) -> AttentionTrace:
    """Leave a page out of the rows of some steps: the last of each."""
    kept = np.ones(len(found.pages), np.bool_)
    rows = np.isin(found.step, steps)
    kept[found.offsets[1:][rows] - 1] = False
    lengths = found.row_pages - rows
    return replace(
        found,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        pages=found.pages[kept],
        scores={name: score[kept] for name, score in found.scores.items()},
    )


def without_rows(found: AttentionTrace, step: int) -> AttentionTrace:
    """Leave out a step."""
    rows = found.step != step
    kept = np.repeat(rows, found.row_pages)
    return replace(
        found,
        step=found.step[rows],
        request=found.request[rows],
        layer=found.layer[rows],
        kv_head=found.kv_head[rows],
        offsets=np.concatenate([[0], np.cumsum(found.row_pages[rows])]),
        pages=found.pages[kept],
        scores={name: score[kept] for name, score in found.scores.items()},
    )


@pytest.mark.parametrize("steps", [1, 5, 6, 7, 16, 17, 29])
@pytest.mark.parametrize("lacking", ["nothing", "newest pages", "a step"])
def test_the_first_steps_are_those_of_the_whole(steps: int, lacking: str, tmp_path: Path) -> None:
    """Pages begin in steps 5 and 15."""
    traces = [trace(35, 30), trace(61, 33, seed=2)]
    if lacking == "newest pages":
        traces = [without_newest(each, range(29)) for each in traces]
    elif lacking == "a step":
        traces = [without_rows(each, max(steps - 1, 1)) for each in traces]
    whole = batch(tmp_path, traces)
    reads, seen = first_steps(whole.reads, whole.seen, steps)
    found = batch(tmp_path, traces, steps=steps)
    for field in fields(reads):
        one, other = getattr(found.reads, field.name), getattr(reads, field.name)
        np.testing.assert_array_equal(one, other, field.name)
    assert seen is not None
    assert found.seen is not None
    for name in ("offsets", "pages", "relative"):
        np.testing.assert_array_equal(getattr(found.seen, name), getattr(seen, name), name)
    np.testing.assert_array_equal(found.prompt_tokens, whole.prompt_tokens)
