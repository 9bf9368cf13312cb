"""The products of a layer on one GPU, and its routed experts."""

from collections.abc import Iterator
from dataclasses import dataclass

from vsim.sim.machine.precision import Precision
from vsim.sim.model.layer import Layer
from vsim.sim.model.model import Model
from vsim.sim.model.weight_format import Weights, stored
from vsim.sim.timing.experts import ExpertShape


@dataclass(frozen=True, slots=True)
class Product:
    """A product of a layer on one GPU: n outputs, k inputs, and the weights' precision."""

    n: int
    k: int
    precision: Precision


def layer_products(model: Model, layer: int, tensor: int, weights: Weights) -> Iterator[Product]:
    """The products of one layer, without routed experts; the router stays in bf16.

    Matrices of a part that share a product's name are one kernel, as engines fuse them.
    """
    yield from products_of(model.stack[layer], model.hidden, tensor, weights)


def products_of(layer: Layer, hidden: int, tensor: int, weights: Weights) -> Iterator[Product]:
    """The same of a layer by itself."""
    for part in layer.parts:
        fused: dict[str, Product] = {}
        for each in part.matrices(hidden):
            n, k = each.on_gpu(tensor)
            precision = stored(weights, each.role).precision
            before = fused.get(each.product)
            if before is not None and before.k == k and each.count == 1:
                fused[each.product] = Product(before.n + n, k, before.precision)
            elif before is None and each.count == 1:
                fused[each.product] = Product(n, k, precision)
            else:
                for _ in range(each.count):
                    yield Product(n, k, precision)
        yield from (each for each in fused.values() if each.n and each.k)


def expert_shape(layer: Layer, hidden: int, tensor: int, dealt: int = 1) -> ExpertShape | None:
    """The routed experts of a layer on so many GPUs; None where it has none.

    They are dealt to groups of these, and each is cut over the GPUs of its group.
    """
    moe = layer.moe
    if moe is None:
        return None
    return ExpertShape(
        moe.latent or hidden,
        moe.expert_hidden,
        moe.experts_per_token,
        moe.experts,
        tensor // dealt,
        dealt,
        matrices=3 if moe.three else 2,
    )
