"""Whatever stands in a configuration, it is read or refused with faults of one line each."""

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.seeds import examples
from tests.sim.model.test_families import PUBLISHED

from vsim.sim.model.huggingface import parse_config
from vsim.traces.faults import InputError

WRONG: list[Any] = ["x", -1, 0, [], {}, 1.5, True, 10**12, None, [1], [None] * 3, {"a": 1}, "",
                    [["x"]], 3, 1e400]  # fmt: skip
CHANGES = st.lists(st.tuples(st.integers(0, 100), st.sampled_from(WRONG)), min_size=1, max_size=3)


@settings(max_examples=examples(400), deadline=None)
@given(st.sampled_from(sorted(PUBLISHED)), CHANGES)
def test_no_value_ends_in_anything_but_a_model_or_faults(
    name: str, changes: list[tuple[int, Any]]
) -> None:
    config = json.loads(json.dumps(PUBLISHED[name]["config"]))
    groups = [config, *(value for value in config.values() if isinstance(value, dict) and value)]
    for at, value in changes:
        group = groups[at % len(groups)]
        group[sorted(group)[at % len(group)]] = value
    with contextlib.suppress(InputError):
        model = parse_config(json.dumps(config), "config.json", "m")
        assert model.parameters > 0
        assert model.kv_bytes_held(1000, "bf16") >= 0
