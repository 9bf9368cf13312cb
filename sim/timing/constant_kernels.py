"""`ConstantKernels`: times of kernels by a roofline with constants, for what no table holds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vsim.sim.machine.machine import Machine
from vsim.sim.model.model import expected_experts
from vsim.sim.timing.collectives import Collective, Exchange, Mode
from vsim.sim.timing.decode_attention import decode_attention_bound
from vsim.sim.timing.experts import ExpertShape, experts_bound
from vsim.sim.timing.head_shapes import HeadShape
from vsim.sim.timing.latent_attention import latent_product_bound
from vsim.sim.timing.prefill_attention import prefill_attention_bound
from vsim.sim.timing.products import product_bound
from vsim.sim.timing.roofline import ACTIVATION_BYTES, Bound, Floats, Peaks
from vsim.traces.schema import KERNELS


@dataclass(frozen=True, slots=True)
class ConstantKernels:
    """Times by constants: floor + max(bytes / (B · e_B), FLOPs / (F · e_F)). See `Kernels`.

    Args:
        peaks: the GPU's.
        flops_efficiency: share of the peak rate.
        hbm_efficiency: share of the memory's bandwidth.
        link_bytes_per_s: between GPUs, of one in one direction; 0 where there is no link.
        link_latency_ns: of a message between two GPUs.
        product_floor_ns: the least a product takes.
        attention_floor_ns: the least an attention takes.
        experts_floor_ns: the least a layer's experts take.
    """

    peaks: Peaks
    flops_efficiency: float
    hbm_efficiency: float
    link_bytes_per_s: float = 0.0
    link_latency_ns: float = 0.0
    # What tables of Hopper and Blackwell show: 1.8 to 5 us, 7 to 10 us, 14 to 24 us.
    product_floor_ns: float = 3_000.0
    attention_floor_ns: float = 9_000.0
    experts_floor_ns: float = 20_000.0

    @property
    def source(self) -> str:
        """Where the times are from."""
        return (
            f"constants: {self.flops_efficiency:g} of the arithmetic's peak,"
            f" {self.hbm_efficiency:g} of the memory's"
        )

    @property
    def rough(self) -> Sequence[str]:
        """All of them."""
        return KERNELS

    def product_ns(self, precision: str, m: ArrayLike, n: int, k: int) -> Floats:
        """See `Kernels`."""
        bound = product_bound(self.peaks, precision, m, n, k)
        return self._time(bound, self.product_floor_ns, m)

    def decode_attention_ns(
        self,
        kv_precision: str,
        batch: ArrayLike,
        context_tokens_mean: ArrayLike,
        shape: HeadShape,
    ) -> Floats:
        """See `Kernels`."""
        bound = decode_attention_bound(self.peaks, kv_precision, batch, context_tokens_mean, shape)
        return self._time(bound, self.attention_floor_ns, batch)

    def prefill_attention_ns(
        self, kv_precision: str, new_tokens: ArrayLike, pairs: ArrayLike, shape: HeadShape
    ) -> Floats:
        """See `Kernels`."""
        bound = prefill_attention_bound(self.peaks, kv_precision, new_tokens, pairs, shape)
        return self._time(bound, self.attention_floor_ns, new_tokens)

    def latent_product_ns(
        self, precision: str, tokens: ArrayLike, heads: int, inputs: int, outputs: int
    ) -> Floats:
        """See `Kernels`."""
        bound = latent_product_bound(self.peaks, precision, tokens, heads, inputs, outputs)
        return self._time(bound, self.product_floor_ns, tokens)

    def experts_ns(
        self,
        precision: str,
        tokens: ArrayLike,
        shape: ExpertShape,
        choosing: ArrayLike | None = None,
    ) -> Floats:
        """See `Kernels`; tokens are taken to spread evenly."""
        touched = None
        if choosing is not None:
            alone = np.asarray(choosing, dtype=np.float64)
            touched = expected_experts(shape.experts, shape.experts_per_token, alone)
        bound = experts_bound(self.peaks, precision, tokens, shape, touched)
        return self._time(bound, self.experts_floor_ns, tokens)

    def collective_ns(self, collective: Collective, gpus: int, size_bytes: ArrayLike) -> Floats:
        """See `Kernels`: all but a GPU's own part goes out, or comes in; of an all-reduce, both."""
        messages = 2 if collective == "all_reduce" else 1
        size = np.asarray(size_bytes, dtype=np.float64)
        return self._sent(gpus, size * messages * (gpus - 1) / gpus, messages)

    def expert_exchange_ns(
        self,
        direction: Exchange,
        tokens: ArrayLike,
        hidden: int,
        experts_per_token: int,
        expert_parallel: int,
        mode: Mode = "low_latency",
    ) -> Floats:
        """See `Kernels`: each token goes once to each GPU that has one of its experts, or back."""
        near = expert_parallel * (1 - (1 - 1 / expert_parallel) ** experts_per_token)
        copies = near * (expert_parallel - 1) / expert_parallel
        sent = np.asarray(tokens) * (float(ACTIVATION_BYTES) * hidden * copies)
        return self._sent(expert_parallel, sent)

    def _time(self, bound: Bound, floor_ns: float, work: ArrayLike) -> Floats:
        busy = np.maximum(
            bound.bytes_ns / self.hbm_efficiency, bound.flops_ns / self.flops_efficiency
        )
        return np.where(np.asarray(work) > 0, floor_ns + busy, 0.0)

    def _sent(self, gpus: int, sent_bytes: ArrayLike, messages: int = 1) -> Floats:
        count = np.asarray(sent_bytes, dtype=np.float64)
        if gpus == 1:
            return np.zeros(count.shape)
        if not self.link_bytes_per_s:
            raise LookupError("the machine has no link between GPUs")
        time = messages * self.link_latency_ns + count / self.link_bytes_per_s * 1e9
        return np.where(count > 0, time, 0.0)


def constant_kernels(machine: Machine) -> ConstantKernels:
    """A machine's kernels by its constants alone."""
    link = machine.gpu_link
    return ConstantKernels(
        Peaks.of(machine),
        machine.gpu.flops_efficiency.value,
        machine.gpu.hbm_efficiency.value,
        link.bandwidth.value if link else 0.0,
        float(link.latency.value) if link else 0.0,
    )
