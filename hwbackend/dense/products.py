"""Products of activations by weights on one GPU: `Products`, which keeps a plan for every shape.

The heuristic of cuBLASLt is asked once a shape, and its first answer is kept, as PyTorch does. All
calls share one workspace, so only one stream at a time may launch them. The first launch of a shape
loads its kernel; launch it once before capturing it in a graph.
"""

from dataclasses import dataclass
from typing import Final, Self

from vsim.hwbackend.cuda.streams import Stream
from vsim.hwbackend.dense.cublaslt import CublasLt, Plan
from vsim.hwbackend.dense.memory import ALIGNMENT, Memory
from vsim.hwbackend.dense.shape import BF16_BYTES

WORKSPACE_BYTES: Final = 32 << 20
"""What NVIDIA's cuBLAS takes for itself on Hopper (cuBLAS documentation, section 2.1.8)."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight matrix on the GPU, bf16 and row-major.

    Args:
        address: of its first byte.
        n: rows, the product's outputs.
        k: columns, the product's inputs.
    """

    address: int
    n: int
    k: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the matrix."""
        return BF16_BYTES * self.n * self.k


class Products:
    """Products on one GPU. Holds a handle and plans; workspace and weights are in `memory`.

    Args:
        memory: of the GPU, whose context is current here and in every call.
        lt: cuBLASLt's handle in it; made here where it is left out.
        workspace_bytes: for algorithms that split sums.
    """

    def __init__(
        self, memory: Memory, lt: CublasLt | None = None, workspace_bytes: int = WORKSPACE_BYTES
    ) -> None:
        self._memory = memory
        self._plans: dict[tuple[int, int, int, int], Plan] = {}
        self.workspace = memory.take(workspace_bytes), workspace_bytes
        """Its address, and how much there is."""
        self._lt = CublasLt() if lt is None else lt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def weight(self, n: int, k: int) -> Weight:
        """Take memory for a weight matrix, with nothing written to it yet."""
        return Weight(self._memory.take(BF16_BYTES * n * k), n, k)

    def multiply(self, stream: Stream, x: int, weight: Weight, y: int, m: int) -> None:
        """Launch y = x · weightᵀ in bf16.

        Args:
            stream: in which.
            x: address of m rows of k numbers.
            weight: n rows of k numbers.
            y: address of m rows of n numbers.
            m: tokens; nothing is launched for none.
        """
        if not m:
            return
        plan = self.plan(m, weight.n, weight.k, alignment_of(x, weight.address, y))
        self._lt.multiply(plan, weight.address, x, y, self.workspace[0], stream)

    def plan(self, m: int, n: int, k: int, alignment: int = ALIGNMENT) -> Plan:
        """How a shape is multiplied: cuBLASLt's first answer."""
        key = m, n, k, alignment
        if key not in self._plans:
            (self._plans[key],) = self.candidates(m, n, k, alignment, most=1)
        return self._plans[key]

    def candidates(
        self, m: int, n: int, k: int, alignment: int = ALIGNMENT, *, most: int
    ) -> list[Plan]:
        """Several ways to multiply a shape, cuBLASLt's favourite first."""
        return self._lt.plans(m, n, k, alignment, self.workspace[1], most)

    def multiply_as(self, stream: Stream, plan: Plan, x: int, weight: Weight, y: int) -> None:
        """Launch a product by a plan among `candidates`; arguments as in `multiply`."""
        self._lt.multiply(plan, weight.address, x, y, self.workspace[0], stream)

    def close(self) -> None:
        """Give back plans and handle."""
        self._plans.clear()
        self._lt.close()


def alignment_of(*addresses: int) -> int:
    """The largest power of two up to 256 that all addresses are multiples of."""
    bits = ALIGNMENT
    for address in addresses:
        bits |= address
    return bits & -bits
