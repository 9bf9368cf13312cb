"""Kernels of attention by kind of layer, against bytes and FLOPs worked out by hand."""

from typing import Any

import pytest

from vsim.sim.model.model import Model
from vsim.sim.timing.attention_terms import AttentionTerm, attention_terms
from vsim.sim.timing.decode_attention import decode_attention_bound
from vsim.sim.timing.prefill_attention import prefill_attention_bound
from vsim.sim.timing.roofline import Peaks

PEAKS = Peaks(1e12, 1e15, 2e15, 2e15)
LATENT = {
    "kind": "mla", "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128,
    "v_head_dim": 128,
}  # fmt: skip


def model(**fields: Any) -> Model:
    shape = {"name": "m", "layers": 4, "hidden": 512, "heads": 16, "kv_heads": 4, "head_dim": 64,
             "ffn_hidden": 1024, "vocabulary": 1000}  # fmt: skip
    return Model.model_validate(shape | fields)


def terms(of: Model, tensor: int = 1, kv: Any = "bf16") -> list[AttentionTerm]:
    return [term for mixer in of.stack[-1].mixers for term in attention_terms(mixer, tensor, kv)]


def latent(index: dict[str, Any] | None = None) -> Model:
    return model(kv_heads=16, head_dim=192, attention=LATENT | {"index": index})


def test_a_decode_reads_a_latent_once_for_scores_and_values() -> None:
    (term,) = terms(latent(), tensor=4)
    bound = decode_attention_bound(PEAKS, "bf16", 1, 1000, term.decode)
    queries = 2 * 4 * 576 * 2
    assert bound.bytes_ns == pytest.approx((1000 * 576 * 2 + queries) / 1e12 * 1e9)
    # 4 heads a GPU: 512 + 64 for the score, 512 for the value, 2 FLOPs each
    assert bound.flops_ns == pytest.approx(1000 * 4 * 2 * (576 + 512) / 1e15 * 1e9)


def test_a_prefill_attends_to_keys_made_of_latents_in_bf16() -> None:
    (term,) = terms(latent(), kv="fp8")
    assert (term.decode_kv, term.prefill_kv) == ("fp8", "bf16")
    bound = prefill_attention_bound(PEAKS, term.prefill_kv, 100, 5050, term.prefill)
    # 16 heads: 128 + 64 for the score, 128 for the value, 2 FLOPs each
    assert bound.flops_ns == pytest.approx(5050 * 16 * 2 * (192 + 128) / 1e15 * 1e9)


def test_sparse_attention_scans_its_index_and_reads_what_it_chose() -> None:
    index = {"top": 2048, "heads": 8, "head_dim": 128, "key_bytes": 132}
    chosen, scan = terms(latent(index), tensor=8)
    assert (chosen.reach, scan.reach) == (2048, 0)
    far = decode_attention_bound(PEAKS, scan.decode_kv, 1, 100_000, scan.decode)
    # each GPU has all of its heads and keys: 132 bytes a token, and 2 · 128 FLOPs a head
    queries = 2 * 8 * 128 * 2
    assert far.bytes_ns == pytest.approx((100_000 * 132 + queries) / 1e12 * 1e9)
    assert far.flops_ns == pytest.approx(100_000 * 8 * 2 * 128 / 1e15 * 1e9)
    near = [decode_attention_bound(PEAKS, "bf16", 1, n, chosen.decode) for n in (2048, 100_000)]
    assert near[0].bytes_ns == near[1].bytes_ns


def test_an_index_that_another_layer_made_is_not_scanned() -> None:
    assert len(terms(latent({"top": 2048}))) == 1


def test_values_of_another_width_than_keys_count_as_they_are() -> None:
    (term,) = terms(model(attention={"kind": "gqa", "value_dim": 32}))
    bound = decode_attention_bound(PEAKS, "bf16", 0, 10, term.decode)
    assert bound.bytes_ns == 0
    assert term.decode.cached_numbers == 4 * (64 + 32)
    assert term.decode.pair_flops == 2 * 16 * (64 + 32)


def test_an_entry_for_several_tokens_is_read_once() -> None:
    part = {"kind": "compressed", "heads": 16, "head_dim": 64, "rotary_dim": 16, "q_lora_rank": 32,
            "output_groups": 2, "output_rank": 8, "window": 128, "ratio": 4}  # fmt: skip
    mixed = model(parts={"few": part}, pattern=[{"times": 4, "layers": ["few dense"]}])
    near, far = terms(mixed)
    assert (near.reach, far.ratio) == (128, 4)
    assert far.seen([400, 8]).tolist() == [100, 2]
    assert near.seen([400, 8]).tolist() == [128, 8]


def test_states_and_cross_attention_have_no_kernels_that_grow_with_the_context() -> None:
    part = {"kind": "cross", "heads": 16, "kv_heads": 4, "head_dim": 64, "tokens": 1601}
    layers = ["attention dense"] * 3 + ["image dense"]
    assert terms(model(parts={"image": part}, pattern=[{"layers": layers}])) == []
    mamba = {"kind": "mamba", "width": 64, "step_rank": 4}
    layers = ["attention dense"] * 3 + ["mamba dense"]
    assert terms(model(parts={"mamba": mamba}, pattern=[{"layers": layers}])) == []
