"""Configurations of published models against a table of their true sizes.

The table is no part of this project: `VSIM_MODELS` names a folder with `configs/*.json` and
`truth.csv`, as transformers' classes count them.
"""

import csv
import os
from pathlib import Path

import pytest

from vsim.sim.model.huggingface import load_config
from vsim.traces.faults import InputError

NO_FOLDER = "VSIM_MODELS names no folder of configurations"
TOLERANCE = 0.01
COLUMNS = ("parameters", "active_parameters", "kv_bytes_per_token_bf16",
           "kv_bytes_held_at_131072_tokens_bf16")  # fmt: skip
REFUSED = {
    "bert-base-uncased": "is an encoder",
    "whisper-large-v3": "is an encoder with a decoder that attends to it",
}
# Where the table has a published figure that is not what its column says: weights that a token
# meets, LM head included, embedding not.
OTHERWISE = {
    # 28 layers of (2·2048·(16+4)·128 + 2048·64 + (6+2)·3·2048·1408 + 2·2048) weights that a token
    # meets, the LM head 126464·2048 and a norm: 2,494,154,752. With the embedding: 2.753e9, as
    # published.
    ("Ling-lite", "active_parameters"): 28
    * (2 * 2048 * 20 * 128 + 2048 * 64 + 8 * 3 * 2048 * 1408 + 2 * 2048)
    + 126_464 * 2048
    + 2048,
    # 70 layers of lightning attention (5·6144·8192 and a norm of 8192), 10 of attention
    # (2·6144·(64+8)·128), 80 times two experts of 3·6144·9216, a router of 6144·32, two norms; the
    # LM head 200064·6144 and a norm: 4.717e10. Without the LM head: 4.594e10, as published.
    ("MiniMax-M1-80k", "active_parameters"): 70 * (5 * 6144 * 8192 + 8192)
    + 10 * 2 * 6144 * 72 * 128
    + 80 * (2 * 3 * 6144 * 9216 + 6144 * 32 + 2 * 6144)
    + 200_064 * 6144
    + 6144,
}


def folder() -> Path | None:
    named = os.environ.get("VSIM_MODELS")
    return Path(named) if named and (Path(named) / "truth.csv").is_file() else None


def rows() -> list[dict[str, str]]:
    found = folder()
    if found is None:
        return []
    with (found / "truth.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(folder() is None, reason=NO_FOLDER)
@pytest.mark.parametrize("row", rows(), ids=lambda row: row["config"])
def test_a_published_model_has_its_true_sizes_or_is_refused_by_name(row: dict[str, str]) -> None:
    here = folder()
    assert here is not None
    name = row["config"]
    path = here / "configs" / f"{name}.json"
    if name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name]):
            load_config(path)
        return
    model = load_config(path)
    found = (
        model.parameters,
        model.active_parameters,
        model.kv_bytes_per_token("bf16"),
        model.kv_bytes_held(131_072, "bf16"),
    )
    for column, value in zip(COLUMNS, found, strict=True):
        if row[column]:
            true = OTHERWISE.get((name, column), float(row[column]))
            assert value == pytest.approx(true, rel=TOLERANCE), column


@pytest.mark.skipif(folder() is None, reason=NO_FOLDER)
def test_all_configurations_are_in_the_table() -> None:
    here = folder()
    assert here is not None
    names = {path.stem for path in (here / "configs").glob("*.json")}
    assert names == {row["config"] for row in rows()}
    assert len(names) >= 100
