"""From a decoder's keys to the fields of a model file."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from vsim.sim.model.parts.ffn import MOST_LAYERS
from vsim.sim.model.reading import (
    beside,
    convolutions,
    gemma,
    linear_attention,
    mixed,
    nemotron,
    older,
    plain,
    sparse,
    state_spaces,
    vectors,
    zamba,
)
from vsim.sim.model.reading.attention import flag
from vsim.sim.model.reading.class_defaults import class_defaults
from vsim.sim.model.reading.draft import Draft
from vsim.sim.model.reading.families import FAMILIES
from vsim.sim.model.reading.keys import Keys
from vsim.sim.model.reading.nested import decoder_of, family_of
from vsim.sim.model.reading.quantisation import declared
from vsim.sim.model.reading.traits import Traits
from vsim.sim.model.reading.unread import complain_of_kind, complain_of_unread

Build: TypeAlias = Callable[[Keys, Draft, Traits], None]
_BUILDS: Mapping[str, Build] = MappingProxyType({
    "arctic": beside.arctic,
    "bailing_hybrid": linear_attention.bailing_hybrid,
    "bailing_linear": linear_attention.bailing_linear,
    "bamba": state_spaces.bamba,
    "bitnet": vectors.bitnet,
    "bloom": older.bloom,
    "chatglm": older.chatglm,
    "dbrx": beside.dbrx,
    "deepseek_v4": sparse.deepseek_v4,
    "delta_net": linear_attention.delta_net,
    "diffllama": vectors.diffllama,
    "falcon": older.falcon,
    "falcon_h1": state_spaces.falcon_h1,
    "gemma3n": gemma.gemma3n,
    "gemma4": gemma.gemma4,
    "gpt_bigcode": older.gpt_bigcode,
    "gpt_neo": older.gpt_neo,
    "granite_hybrid": state_spaces.granite_hybrid,
    "grok": beside.grok,
    "hyperclovax": vectors.hyperclovax,
    "jamba": state_spaces.jamba,
    "kimi_linear": linear_attention.kimi_linear,
    "laguna": mixed.laguna,
    "lfm2": convolutions.lfm2,
    "lightning": linear_attention.lightning,
    "llama4": mixed.llama4,
    "longcat": sparse.longcat,
    "mamba": state_spaces.mamba,
    "mamba2": state_spaces.mamba2,
    "mimo_v2": mixed.mimo_v2,
    "minimax_m3": sparse.minimax_m3,
    "mllama": mixed.mllama,
    "mpt": older.mpt,
    "nemotron_h": nemotron.nemotron_h,
    "nemotron_nas": nemotron.nemotron_nas,
    "openelm": mixed.openelm,
    "opt": older.opt,
    "persimmon": vectors.persimmon,
    "phi3small": vectors.phi3small,
    "plain": plain.plain,
    "plamo2": state_spaces.plamo2,
    "qwen1": older.qwen1,
    "recurrent_gemma": convolutions.recurrent_gemma,
    "stablelm": vectors.stablelm,
    "step3": mixed.step3,
    "step3p5": mixed.step3p5,
    "zamba": zamba.zamba,
    "zamba2": zamba.zamba2,
})  # fmt: skip
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model", "n_embed", "model_dim", "dim")
VOCABULARY = ("vocab_size", "padded_vocab_size")
# Sizes that every published file states; only groups inside one leave them to the class.
_STATED = {*LAYERS, *HIDDEN, *VOCABULARY, "num_attention_heads", "n_head", "n_heads",
           "intermediate_size"}  # fmt: skip


def decoder_keys(config: Mapping[str, Any], file: str) -> tuple[Keys, Traits, bool]:
    """The decoder's keys with its class's defaults, its traits, and whether it is known."""
    values, place = decoder_of(config)
    family = family_of(values)
    defaults = class_defaults().get(family, {})
    if not place:
        defaults = {key: value for key, value in defaults.items() if key not in _STATED}
    keys = Keys(values, file, defaults, place)
    keys.kind = family
    known = family in FAMILIES
    return keys, FAMILIES.get(family, Traits(windows="all")), known


def read_fields(config: Mapping[str, Any], file: str) -> tuple[dict[str, Any], Keys]:
    """The fields of a model file; what is wrong is in the keys' faults."""
    keys, traits, known = decoder_keys(config, file)
    if complain_of_kind(keys):
        return {}, keys
    draft = Draft(_layers(keys), keys.need("the width of the residual stream", *HIDDEN))
    draft.fields["vocabulary"] = keys.need("the number of tokens known", *VOCABULARY)
    draft.fields["tied_embeddings"] = _tied(keys, traits, known)
    _BUILDS[traits.build](keys, draft, traits)
    draft.fields.setdefault("norms_per_layer", traits.norms if traits.norm_weights else 0)
    if flag(keys, traits.norm_bias):
        draft.fields["norm_bias"] = True
    if flag(keys, traits.head_bias):
        draft.fields["head_bias"] = True
    if traits.positions is not None:
        key, more = traits.positions
        draft.fields["positions"] = more + keys.need("how many positions are learned", key, "n_ctx")
    if traits.other_per_layer:
        draft.fields["other_per_layer"] = traits.other_per_layer
    found = declared(keys, draft)
    if found:
        draft.fields["declared"] = found
    complain_of_unread(keys, known)
    if keys.faults:
        return {}, keys
    return draft.finish(), keys


def _layers(keys: Keys) -> int:
    """How many layers: as stated, or as many as are listed."""
    listed = keys.values.get("layers_block_type")
    if isinstance(listed, list) and listed and not keys.has(*LAYERS):
        keys.see("layers_block_type")
        return len(listed)
    count = keys.need("the number of layers", *LAYERS)
    if count > MOST_LAYERS:
        message = f"{count} is out of range; write a number of at most {MOST_LAYERS}"
        keys.complain(LAYERS[0], message)
        return 1
    return count


def _tied(keys: Keys, traits: Traits, known: bool) -> bool:
    if keys.values.get("use_embedding_sharing") is True:  # Command-R's own name for it
        keys.see("use_embedding_sharing", "tie_word_embeddings")
        return True
    names = ("tie_word_embeddings", "tie_embedding")  # the second is Liquid AI's
    value = keys.raw(*names)
    if value is None:  # as a file without the key: what the class does
        value = keys.defaults.get("tie_word_embeddings")
        if value is not None:
            return bool(value)
    if value is None and traits.tied is None and not known:
        message = "is missing, and what a model of this model_type does is not known here"
        keys.complain("tie_word_embeddings", f"{message}; write true or false")
    return keys.yes(*names, default=bool(traits.tied))
