"""A local Hugging Face model folder through transformers, on a CPU or a GPU.

transformers lets a model take its attention function by name (AttentionInterface). The one here
computes causal softmax attention in float32 and shows it to the observer.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vsim.traces.faults import refuse
from vsim.traces.recorders.model import F32, AttentionRead, Observer, Shape

_NAME = "vsim_recorder"
_ROWS = 128  # tokens read at a time: bounds the attention matrix


class FolderModel:
    """A decoder-only model with its cache. Mutable: the cache and the current observer."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Load weights and tokenizer from a folder; nothing is fetched.

        Raises:
            InputError: transformers is not installed, or the folder holds no such model.
        """
        try:
            import torch
            import transformers
            from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            refuse("--model", f"a folder needs transformers and torch ({error}); install them")
        if device != "cpu" and not torch.cuda.is_available():
            refuse("--device", f"no GPU for {device!r} here; write cpu")
        self._torch: Any = torch
        self._device = device
        self._observer: Observer | None = None
        AttentionInterface.register(_NAME, self._attend)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            self._model: Any = AutoModelForCausalLM.from_pretrained(
                str(folder), local_files_only=True, attn_implementation=_NAME
            )
        except (OSError, ValueError, KeyError) as error:
            cause = str(error).splitlines()[0]
            refuse(str(folder), f"is no folder of a Hugging Face causal model ({cause})")
        self._model.to(device).eval()
        config = self._model.config
        heads = int(config.num_attention_heads)
        self.weights = (
            f"{folder.name}, {self._model.dtype}, transformers {transformers.__version__}"
        )
        self.shape = Shape(
            name=folder.name,
            layers=int(config.num_hidden_layers),
            query_heads=heads,
            kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
            head_size=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
            context_tokens=int(config.max_position_embeddings),
        )
        self._cache: Any = transformers.DynamicCache()
        self._cached = 0

    def encode(self, text: str) -> list[int]:
        """Turn text into tokens."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, tokens: Sequence[int]) -> str:
        """Turn tokens into text."""
        return str(self._tokenizer.decode(list(tokens)))

    def cut(self, tokens: int) -> None:
        """Forget all but the first tokens of the cache."""
        if tokens == 0:
            self._cache = type(self._cache)()
        elif tokens < self._cached:
            self._cache.crop(tokens - self._cached)  # negative: how many to remove
        self._cached = min(self._cached, tokens)

    def read(self, tokens: Sequence[int], observer: Observer | None = None) -> F32:
        """Append tokens to the cache and return logits [T, vocabulary]; see `Model.read`."""
        if self._cached + len(tokens) > self.shape.context_tokens:
            refuse(
                self.shape.name,
                f"{self._cached + len(tokens)} tokens do not fit a context of "
                f"{self.shape.context_tokens}; shorten the prompt or lower --tokens",
            )
        self._observer = observer
        rows: list[F32] = []
        for start in range(0, len(tokens), _ROWS):
            part = list(tokens[start : start + _ROWS])
            ids = self._torch.tensor([part], device=self._device)
            with self._torch.inference_mode():
                out = self._model(
                    input_ids=ids,
                    past_key_values=self._cache,
                    use_cache=True,
                    logits_to_keep=0 if observer is not None else 1,
                )
            rows.append(out.logits[0].float().cpu().numpy())
            self._cached += len(part)
        return np.concatenate(rows) if observer is not None else rows[-1]

    def _attend(
        self,
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any,
        scaling: float | None = None,
        **settings: Any,
    ) -> tuple[Any, None]:
        """Attend causally; query [1, heads, T, size], key and value [1, kv_heads, n, size]."""
        torch = self._torch
        if settings.get("softcap") is not None:
            refuse(self.shape.name, "caps its attention logits, which the recorder does not do")
        _, heads, count, size = query.shape
        kv_heads, tokens = key.shape[1], key.shape[2]
        grouped = query[0].float().reshape(kv_heads, heads // kv_heads, count, size)
        scale = 1 / math.sqrt(size) if scaling is None else scaling
        logits = torch.matmul(grouped, key[0].float()[:, None].transpose(-1, -2)) * scale
        place = torch.arange(tokens, device=query.device)
        own = torch.arange(tokens - count, tokens, device=query.device)[:, None]
        hidden = place[None, :] > own
        window = settings.get("sliding_window")
        if window is not None:
            hidden = hidden | (place[None, :] <= own - window)
        probabilities = torch.softmax(logits.masked_fill(hidden, -math.inf), dim=-1)
        if self._observer is not None:
            kept = self._observer(
                AttentionRead(
                    layer=int(module.layer_idx),
                    # the bound of Quest scales by 1/sqrt(size); other scalings are put in here
                    query=(grouped * (scale * math.sqrt(size))).cpu().numpy(),
                    keys=key[0].float().cpu().numpy(),
                    probabilities=probabilities.cpu().numpy(),
                )
            )
            if kept is not None:
                mask = torch.from_numpy(kept).to(query.device)[:, None]
                probabilities = probabilities * mask
                probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
        mixed = torch.matmul(probabilities, value[0].float()[:, None])
        joined = mixed.reshape(1, heads, count, value.shape[-1]).transpose(1, 2)
        return joined.to(query.dtype).contiguous(), None
