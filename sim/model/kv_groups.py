"""KV groups: what the layers of one kind keep of a request.

Layers that keep the same of a token form a group. A request's KV is the sum over its groups, and a
prefix that another request computed can be used only where every group has its part.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["full", "window", "chunk", "state", "fixed"]


@dataclass(frozen=True, slots=True)
class KvGroup:
    """What a set of layers keeps of one request, each number held once.

    Args:
        name: unique within its model, as `full`, `window_1024` or `state`.
        kind: `full` keeps every token; `window` the last `tokens` ones; `chunk` those since the
            last multiple of `tokens`; `state` and `fixed` as many bytes for any request. A state
            changes with each token, so that it can be shared only as a copy made at a block's end;
            what is `fixed` (keys of an image, say) is written once and never shared.
        layers: how many layers.
        entry_bytes: of one entry, over all layers of the group; 0 for `state` and `fixed`.
        tokens_per_entry: tokens that one entry stands for: 1, or more where a layer compresses.
        tokens: width of the window or chunk; 0 for the other kinds.
        request_bytes: of a `state` or `fixed` group, of one request over all of its layers.
        copies: how many GPUs of a server hold each entry, in HBM alone; below it there is one.
    """

    name: str
    kind: Kind
    layers: int
    entry_bytes: int
    tokens_per_entry: int = 1
    tokens: int = 0
    request_bytes: int = 0
    copies: int = 1

    def held_bytes(self, tokens: int) -> int:
        """Bytes of one copy that a sequence of so many tokens needs, without padding to pages.

        A chunk keeps what its last token sees: itself and those before it in its chunk.
        """
        if self.kind in ("state", "fixed"):
            return self.request_bytes
        seen = tokens
        if self.kind == "window":
            seen = min(tokens, self.tokens)
        elif self.kind == "chunk":
            seen = min(tokens, (tokens - 1) % self.tokens + 1) if tokens else 0
        return -(-seen // self.tokens_per_entry) * self.entry_bytes
