"""ShownModel: all that `vsim model show` says of a model, and how it is written as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from vsim.sim.scenario.precision import weight_words
from vsim.sim.sizing.engine_room import HeldGroup, engine_room
from vsim.sim.sizing.machine_room import MachineRoom
from vsim.sim.sizing.sizes import ModelSizes
from vsim.sim.sizing.transformers_count import Counted


@dataclass(frozen=True, slots=True)
class ShownModel:
    """A model's sizes, what an engine holds of it, and the machines of the catalogue.

    Args:
        sizes: by arithmetic.
        profile: the engine's name.
        step_tokens: that it computes at most in a step, on its largest GPUs.
        block_tokens: of its blocks.
        equal_groups: see `engine_room`.
        machines: what each has room for.
        declared: which of `weights` and `kv` have the precision that the checkpoint declares.
        counted: what transformers counts; None where it was not asked.
    """

    sizes: ModelSizes
    profile: str
    step_tokens: int
    block_tokens: int
    equal_groups: bool
    machines: tuple[MachineRoom, ...]
    declared: tuple[str, ...] = ()
    counted: Counted | None = None

    @property
    def held(self) -> tuple[HeldGroup, ...]:
        """What the engine holds of one sequence, on one GPU."""
        return engine_room(
            self.sizes.groups,
            self.sizes.tokens,
            step_tokens=self.step_tokens,
            block_tokens=self.block_tokens,
            equal_groups=self.equal_groups,
        )

    def as_json(self) -> dict[str, Any]:
        """Everything, with bytes and counts as whole numbers."""
        sizes, model, held = self.sizes, self.sizes.model, self.held
        return {
            "model": model.name,
            "source": model.source,
            "parameters": model.parameters,
            "active_parameters": model.active_parameters,
            "weights": weight_words(sizes.weights),
            "weight_bytes": sizes.weight_bytes,
            "kv": sizes.kv,
            "kv_bytes_per_token": sizes.kv_bytes_per_token,
            "tokens": sizes.tokens,
            "kv_bytes_held": sizes.kv_bytes_held,
            "state_bytes_per_request": sizes.state_bytes_per_request,
            "declared": list(self.declared),
            "beside": dict(model.apart),
            **({} if self.counted is None else {"transformers": asdict(self.counted)}),
            "layers": model.layers,
            "groups": [_group(each, sizes.tokens) for each in held],
            "engine": {
                "profile": self.profile,
                "step_tokens": self.step_tokens,
                "equal_groups": self.equal_groups,
                "bytes_during_prefill": sum(each.prefill_bytes for each in held),
                "bytes_after_prefill": sum(each.bytes for each in held),
            },
            "machines": [
                {
                    "machine": each.machine,
                    "gpus": each.gpus,
                    "weight_bytes": each.weight_bytes,
                    "kv_room_bytes": each.kv_bytes,
                    "sequence_bytes": each.sequence_bytes,
                    "sequences": each.sequences,
                    "engine_sequences": each.engine_sequences,
                    **({"reason": each.reason} if each.reason else {}),
                }
                for each in self.machines
            ],
        }


def _group(held: HeldGroup, tokens: int) -> dict[str, Any]:
    group = held.group
    return {
        "name": group.name,
        "kind": group.kind,
        "layers": group.layers,
        "entry_bytes": group.entry_bytes,
        "tokens_per_entry": group.tokens_per_entry,
        "window_tokens": group.tokens,
        "request_bytes": group.request_bytes,
        "held_bytes": group.held_bytes(tokens),
        "engine": {
            "block_tokens": held.block_tokens,
            "block_bytes": held.block_bytes,
            "blocks_during_prefill": held.prefill_blocks,
            "blocks_after_prefill": held.blocks,
        },
    }
