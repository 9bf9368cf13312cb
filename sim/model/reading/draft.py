"""Draft: a model file in the making, as its configuration is read."""

from collections.abc import Mapping, Sequence
from typing import Any

from vsim.sim.model.pattern import as_runs


class Draft:
    """Fields of a model, and which mixers and FFNs each layer has. Grows as it is read.

    Args:
        layers: of the decoder.
        hidden: width of the residual stream.
    """

    def __init__(self, layers: int, hidden: int) -> None:
        self.layers = layers
        self.hidden = hidden
        self.fields: dict[str, Any] = {"layers": layers, "hidden": hidden}
        self.parts: dict[str, dict[str, Any]] = {}
        self.mixers: list[str] = []
        self.ffns: list[str] = []

    def part(self, name: str, fields: Mapping[str, Any]) -> str:
        """Take up a part under a name, or under the one that an equal part has."""
        for known, part in self.parts.items():
            if part == fields and known.rstrip("_0123456789") == name.rstrip("_0123456789"):
                return known
        found, number = name, 1
        while found in self.parts:
            number += 1
            found = f"{name}_{number}"
        self.parts[found] = dict(fields)
        return found

    def finish(self) -> dict[str, Any]:
        """The model file's fields, without a pattern where the layers need none."""
        fields = dict(self.fields)
        if self._is_plain():
            dense = self.ffns.count("dense")
            if "moe" in fields and dense:
                fields["moe"] = fields["moe"] | {"dense_layers": dense}
            return self._without_unused(fields, {"attention", *self.ffns})
        names = [
            f"{mixer} {ffn}".strip() or "nothing"
            for mixer, ffn in zip(self.mixers, self.ffns, strict=True)
        ]
        used = {each for name in names for each in name.split()}
        fields["pattern"] = as_runs(names)
        fields["parts"] = {name: part for name, part in self.parts.items() if name in used}
        return self._without_unused(fields, used)

    def _is_plain(self) -> bool:
        """Whether all layers attend alike, the first with ordinary FFNs and the rest with experts.

        Only where there are experts at all may some layers have them and others not.
        """
        if set(self.mixers) != {"attention"}:
            return False
        dense = _leading(self.ffns, "dense")
        rest = set(self.ffns[dense:])
        return not rest or (rest == {"experts"})

    @staticmethod
    def _without_unused(fields: dict[str, Any], used: set[str]) -> dict[str, Any]:
        drop = set()
        if "dense" not in used:
            drop.add("ffn_hidden")
        if "experts" not in used:
            drop.add("moe")
        return {key: value for key, value in fields.items() if key not in drop}


def _leading(names: Sequence[str], name: str) -> int:
    """How many names at the start are this one."""
    return next((at for at, each in enumerate(names) if each != name), len(names))
