"""What blocks save is the same number, asked for one by one or all at once."""

import pytest

from vsim.sim.machine.loading import load_machine
from vsim.sim.model.loading import load_model
from vsim.sim.prefixes.values import Value, prefill_flops, prefill_seconds
from vsim.sim.timing.step_cost import step_cost


def values(machine: str, model: str, block_tokens: int) -> list[Value]:
    known = load_model(model)
    cost = step_cost(load_machine(machine), known)
    return [prefill_flops(known, block_tokens), prefill_seconds(cost, block_tokens)]


@pytest.mark.parametrize("machine", ["h100", "rtx4090"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gemma-3-4b"])
@pytest.mark.parametrize("block_tokens", [1, 16, 512])
def test_blocks_known_at_once_are_each_to_the_bit(
    machine: str, model: str, block_tokens: int
) -> None:
    for value in values(machine, model, block_tokens):
        known = value.known_to(300)
        assert [known.of_block(at) for at in range(300)] == [
            value.of_block(at) for at in range(300)
        ]
