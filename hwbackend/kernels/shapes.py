"""Llama-3.1-8B's shapes."""

from typing import Final

HIDDEN: Final = 4096
INTERMEDIATE: Final = 14336
HEADS: Final = 32
KV_HEADS: Final = 8
HEAD_DIM: Final = 128
LAYERS: Final = 32
VOCABULARY: Final = 128_256
QKV: Final = (HEADS + 2 * KV_HEADS) * HEAD_DIM
EPS: Final = 1e-5
# outputs and inputs of each product of a layer, in the order in which they run
PRODUCTS: Final = {
    "qkv": (QKV, HIDDEN),
    "o": (HIDDEN, HEADS * HEAD_DIM),
    "gate_up": (2 * INTERMEDIATE, HIDDEN),
    "down": (HIDDEN, INTERMEDIATE),
}
WEIGHT_STD: Final = 0.02
