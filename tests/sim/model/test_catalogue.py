"""The models that come along, against what their publishers say of them."""

import pytest

from vsim.sim.model.loading import catalogue_names, load_model

# Billions of parameters, and of those that a token meets, as model cards and technical reports
# give them. Where they count a vision tower or a layer of multi-token prediction, or say no more
# than round figures, the comment says what is held instead.
PUBLISHED = {
    "llama-2-7b": (6.74, None),
    "llama-2-13b": (13.02, None),
    "llama-2-70b": (68.98, None),
    "llama-3.1-8b": (8.03, None),
    "llama-3.1-70b": (70.55, None),
    "llama-3.1-405b": (405.85, None),
    "llama-3.2-1b": (1.24, 1.24),
    "llama-3.2-3b": (3.21, 3.21),
    "llama-3.3-70b": (70.55, None),
    "llama-4-scout": (109, 17),  # with 0.9 of vision; the embedding's 1.03 is met by no token here
    "llama-4-maverick": (400, 17),
    "qwen2.5-7b": (7.62, None),
    "qwen2.5-32b": (32.8, None),
    "qwen2.5-72b": (72.7, None),
    "qwen3-0.6b": (0.6, None),
    "qwen3-8b": (8.19, None),
    "qwen3-32b": (32.8, None),
    "qwen3-30b-a3b": (30.5, 3.3),
    "qwen3-235b-a22b": (235, 22),
    "qwen3-coder-480b-a35b": (480, 35),
    "qwen3-next-80b-a3b": (80, 3.9),  # 3.9 activated with the embedding
    "qwen3.5-35b-a3b": (35, 3),
    "qwen3.5-122b-a10b": (122, 10),
    "qwen3.5-397b-a17b": (397, 17),
    "qwen3.6-27b": (27, None),
    "qwen3.6-35b-a3b": (35, 3),
    "deepseek-v3": (671, 37),
    "deepseek-v3.2": (671, 37),
    "deepseek-v4-flash": (284, 13),
    "deepseek-v4-pro": (1573, 49),  # "1.6T"
    "kimi-k2": (1026, 32),  # "1.04T" in the report; its checkpoint holds 1,026 B
    "kimi-linear-48b-a3b": (49, 3),
    "glm-4.5": (355, 32),
    "glm-4.5-air": (106, 12),
    "glm-5": (744, 40),
    "gpt-oss-20b": (20.91, 3.61),
    "gpt-oss-120b": (116.83, 5.13),
    "gemma-3-4b": (0.675 + 3.209, None),  # the report's embedding and other parameters
    "gemma-3-12b": (1.012 + 10.759, None),
    "gemma-3-27b": (1.416 + 25.6, None),
    "gemma-4-26b-a4b": (25.2, 3.8),
    "gemma-4-31b": (30.7, None),
    "mistral-7b": (7.25, None),
    "mistral-nemo-12b": (12.2, None),
    "mistral-small-3.1-24b": (23.6, None),
    "mistral-large-123b": (123, None),
    "mixtral-8x7b": (46.7, 12.9),
    "mixtral-8x22b": (141, 39),
    "minimax-m2": (229, 10),
    "nemotron-3-nano-30b-a3b": (31.6, 3.2),
    "nemotron-3-super-120b-a12b": (120.6, 12),
    "nemotron-3-ultra-550b-a55b": (550, 55),
    "granite-4.0-h-tiny": (6.94, None),
    "granite-4.0-h-small": (32.2, 9),
    "smollm2-135m": (0.1345, 0.1345),
    "smollm2-1.7b": (1.71, 1.71),
    "smollm3-3b": (3.08, 3.08),
}
# As shipped, in bytes; the checkpoints' own sizes without vision and multi-token prediction.
DECLARED = {
    "gpt-oss-20b": ("bf16", "mxfp4"),
    "gpt-oss-120b": ("bf16", "mxfp4"),
    "deepseek-v3": ("fp8", "fp8"),
    "deepseek-v3.2": ("fp8", "fp8"),
    "deepseek-v4-flash": ("fp8", "mxfp4"),
    "deepseek-v4-pro": ("fp8", "mxfp4"),
    "kimi-k2": ("fp8", "fp8"),
    "minimax-m2": ("fp8", "fp8"),
}


def test_every_model_of_the_catalogue_is_held_against_published_counts() -> None:
    assert sorted(PUBLISHED) == catalogue_names()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_has_as_many_parameters_as_its_publisher_says(name: str) -> None:
    model, (total, met) = load_model(name), PUBLISHED[name]
    assert model.name == name
    assert model.source.startswith("config.json of ")
    assert model.parameters == pytest.approx(total * 1e9, rel=0.0125)
    if met is not None:
        # publishers round to a billion; some count the embedding, some not even the LM head
        wide = 0 if model.tied_embeddings else model.embedding_parameters
        active = model.active_parameters
        assert active - wide - 0.5e9 <= met * 1e9 <= active + wide + 0.5e9


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_declares_the_precisions_that_it_was_published_in(name: str) -> None:
    weights = load_model(name).declared.weights
    if name not in DECLARED:
        assert weights is None
        return
    assert weights is not None
    found = (weights.of("attention").precision, weights.of("experts").precision)
    assert found == DECLARED[name]


def test_gpt_oss_takes_as_many_bytes_as_its_checkpoint() -> None:
    model = load_model("gpt-oss-120b")
    assert model.declared.weights is not None
    # 65.25 GB of safetensors: experts of 4.25 bits, all else in bf16
    assert model.weight_bytes(model.declared.weights) == pytest.approx(65.25e9, rel=0.001)
