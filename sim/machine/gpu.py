"""Gpu: what one of a machine's GPUs computes, launches and draws; how GPUs talk to each other."""

from typing import Annotated

from pydantic import Field

from vsim.sim.inputs.words import Word
from vsim.sim.inputs.yaml_input import Bandwidth, DurationNs, Flops
from vsim.sim.machine.precision import Precision
from vsim.sim.machine.quantity import Part, Quantity

Share = Annotated[float, Field(ge=0.001, le=1)]
Watts = Annotated[float, Field(gt=0, le=1e6)]


class Rates(Part):
    """Dense arithmetic rates of one GPU's tensor cores, without structured sparsity."""

    bf16: Quantity[Flops]
    """bf16 products summed in fp32."""
    fp8: Quantity[Flops] | None = None
    """fp8; left out where the GPU has none, and fp8 weights then compute in bf16."""
    int8: Quantity[Flops] | None = None
    """int8; left out where the GPU has none, and int8 weights then compute in bf16."""
    fp4: Quantity[Flops] | None = None
    """fp4 on both sides; left out where the GPU has none, and nvfp4 weights compute in bf16."""

    def for_weights(self, precision: Precision) -> Quantity[Flops]:
        """The rate that products with such weights run at.

        int4 and mxfp4 are unpacked to bf16 first, since what they are multiplied by is bf16.
        """
        if precision in ("fp8", "fp8_scaled") and self.fp8 is not None:
            return self.fp8
        if precision == "nvfp4" and self.fp4 is not None:
            return self.fp4
        if precision == "int8" and self.int8 is not None:
            return self.int8
        return self.bf16


class Sustained(Part):
    """What a GPU under its power limit can keep up, where that is less than what kernels reach."""

    flops_efficiency: Quantity[Share]
    """Share of the peak rate that products keep up."""
    flops_efficiency_fp8: Quantity[Share] | None = None
    """The same of products in fp8; left out: servers with such are taken to keep up all."""
    attention_slowdown: Quantity[Annotated[float, Field(ge=1, le=10)]]
    """How many times as long a prefill's attention then takes."""
    after: Quantity[DurationNs]
    """Arithmetic without a pause before the clock falls. A pause of that length undoes it."""
    cooling: Quantity[Share] | None = None
    """As how much of a pause other work counts, what memory binds; left out: as all of it."""


class Gpu(Part):
    """One GPU, and how many of them the machine has."""

    name: Word
    """The product's name."""
    count: int = Field(1, ge=1, le=1024)
    """GPUs in the machine."""
    flops: Rates
    """Peak arithmetic rates of one GPU."""
    flops_efficiency: Quantity[Share]
    """Share of the peak rate that a step's products reach."""
    hbm_efficiency: Quantity[Share]
    """Share of the hbm tier's read and write bandwidth that a step's kernels reach."""
    sustained: Sustained | None = None
    """Left out: kernels keep up what they reach."""
    memory_utilisation: Quantity[Share]
    """Share of HBM for weights and KV; activations, graphs and the runtime take the rest."""


class GpuLink(Part):
    """What tensor and pipeline parallelism talk over."""

    bandwidth: Quantity[Bandwidth]
    """Of one GPU, in one direction."""
    latency: Quantity[DurationNs]
    """Of one message between two GPUs."""


class Launch(Part):
    """What a step costs before any byte is moved."""

    step_overhead: Quantity[DurationNs]
    """Launching a step's kernels and sampling, as far as the GPU waits for it."""
    kernel: Quantity[DurationNs] | None = None
    """One kernel from the host, of many behind each other. No run reads it yet: it is for replay on
    a GPU."""
    graph: Quantity[DurationNs] | None = None
    """The call that launches a graph of one kernel. No run reads it yet: as `kernel`."""
    graph_kernel: Quantity[DurationNs] | None = None
    """A kernel of a graph that has nothing to do. No run reads it yet: as `kernel`."""
    event: Quantity[DurationNs] | None = None
    """The call that records an event. No run reads it yet: as `kernel`."""


class Power(Part):
    """Power of one GPU. No run reads it yet: it is for energy."""

    idle_w: Quantity[Watts]
    """With a context and no work."""
    attention_w: Quantity[Watts] | None = None
    """While decodes attend over HBM."""
    products_w: Quantity[Watts] | None = None
    """While large matrix products run."""
    max_w: Quantity[Watts]
    """Sustained limit."""
