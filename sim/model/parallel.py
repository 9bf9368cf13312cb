"""Parallelism: how a model's layers, heads and KV lie on a server's GPUs."""

from dataclasses import dataclass

from vsim.sim.machine.machine import Machine
from vsim.sim.machine.tier import Link
from vsim.sim.model.layer import Mixer
from vsim.sim.model.model import Model
from vsim.sim.model.parts.attention import CrossAttention, GroupedAttention
from vsim.sim.model.parts.compressed import CompressedAttention
from vsim.sim.model.parts.ffn import DenseFfn, Moe
from vsim.sim.model.parts.latent import LatentAttention
from vsim.sim.model.parts.linear import GatedDeltaNet, KimiDeltaAttention, LightningAttention
from vsim.sim.model.parts.state_space import Mamba2
from vsim.traces.faults import Fault, InputError


@dataclass(frozen=True, slots=True)
class Layout:
    """A model on `tensor` x `pipeline` GPUs.

    Tensor parallelism splits each layer's heads and FFN columns over `tensor` GPUs. Pipeline
    parallelism gives each of `pipeline` stages a run of layers, the first stages one more where
    they do not divide evenly; the first stage also holds the embedding, the last the LM head.

    Args:
        tensor: GPUs that share each layer.
        pipeline: stages.
        stage_layers: layers of each stage.
        kv_copies: how many times each token's KV is held, per layer; where groups differ in it, at
            most so often. A GQA head goes to one GPU while tensor <= kv_heads, beyond that each is
            held by tensor / kv_heads of them. An MLA latent serves all heads, so every GPU of a
            stage holds a copy.
        expert: groups of a stage's GPUs to which whole experts are dealt. All of them see all
            tokens, and add up what their experts say, as tensor parallelism does.
        experts_over: servers that share the routed experts and go in lockstep. Then these lie on
            the GPUs of all: dealt to `expert` groups of them, each cut over the GPUs of its group.
    """

    tensor: int
    pipeline: int
    stage_layers: tuple[int, ...]
    kv_copies: int
    expert: int = 1
    experts_over: int = 1

    @property
    def experts_gpus(self) -> int:
        """GPUs that the routed experts of a layer lie on."""
        return self.tensor * self.experts_over

    @property
    def gpus(self) -> int:
        """GPUs of the server."""
        return self.tensor * self.pipeline

    @property
    def longest_stage(self) -> int:
        """Layers of the stage that sets the pipeline's pace."""
        return max(self.stage_layers)

    @property
    def imbalance(self) -> float:
        """Longest stage over the mean one: 1 where layers divide evenly."""
        return self.longest_stage * self.pipeline / sum(self.stage_layers)


def lay_out(
    machine: Machine,
    model: Model,
    tensor: int = 1,
    pipeline: int = 1,
    expert: int = 1,
    *,
    experts_over: int = 1,
    file: str = "scenario",
) -> Layout:
    """Lay a model out over GPUs.

    Args:
        machine: whose GPUs.
        model: what is split.
        tensor: GPUs that share each layer.
        pipeline: stages.
        expert: groups to which whole experts are dealt.
        experts_over: servers in lockstep that share the experts.
        file: the name that faults give.

    Raises:
        InputError: if the machine has too few GPUs, or heads or layers can't be split so.
    """
    faults = _faults(machine, model, tensor, pipeline, expert, experts_over)
    if faults:
        raise InputError(Fault(file, message, place=place) for place, message in faults)
    each, more = divmod(model.layers, pipeline)
    stages = tuple(each + (stage < more) for stage in range(pipeline))
    copies = max((group.copies for group in model.kv_groups("bf16", tensor)), default=1)
    return Layout(tensor, pipeline, stages, copies, expert, experts_over)


def _faults(
    machine: Machine, model: Model, tensor: int, pipeline: int, expert: int, over: int
) -> list[tuple[str, str]]:
    faults: list[tuple[str, str]] = []
    degrees = {"tensor": tensor, "pipeline": pipeline, "expert": expert}
    for place, degree in ((f"parallel.{name}", degree) for name, degree in degrees.items()):
        if degree < 1:
            faults.append((place, f"{degree} is out of range; write a number of at least 1"))
    if faults:
        return faults
    if tensor * pipeline > machine.gpu.count:
        message = (
            f"tensor {tensor} x pipeline {pipeline} needs {tensor * pipeline} GPUs and"
            f" {machine.name} has {machine.gpu.count}; write degrees whose product is at most that"
        )
        faults.append(("parallel", message))
    cut = max(tensor * over // expert, 1)  # GPUs that an expert is cut over
    faults += [("parallel.tensor", message) for message in _split_faults(model, tensor, cut)]
    faults += [
        ("parallel.expert", message) for message in _expert_faults(model, tensor, expert, over)
    ]
    if pipeline > model.layers:
        message = f"{pipeline} is more than {model.name}'s {model.layers} layers; write fewer"
        faults.append(("parallel.pipeline", message))
    return faults


def _expert_faults(model: Model, tensor: int, expert: int, over: int) -> list[str]:
    """What does not let experts be dealt to so many groups."""
    if expert == 1:
        return []
    counts = sorted(
        {ffn.experts for layer in model.stack for ffn in layer.ffns if isinstance(ffn, Moe)}
    )
    if not counts:
        return [f"{expert} does nothing: {model.name} has no experts; remove it"]
    if over > 1 and expert != tensor * over:
        return [
            f"{expert} is neither 1 nor tensor x data, {tensor * over}; experts are dealt to the"
            " GPUs of all replicas or cut over them"
        ]
    if tensor * over % expert:
        return [
            f"{expert} does not divide tensor, {tensor}, whose GPUs the experts are dealt to; "
            "write a divisor"
        ]
    return [
        f"{expert} does not divide {model.name}'s {count} experts; write a divisor"
        for count in counts
        if count % expert
    ]


def _split_faults(model: Model, tensor: int, cut: int) -> list[str]:
    """What of a model so many GPUs can't share: heads, KV heads, FFN widths; each said once.

    Args:
        model: what is split.
        tensor: GPUs that share a layer.
        cut: GPUs that share an expert.
    """
    found: list[str] = []
    mixers = dict.fromkeys(mixer for layer in model.stack for mixer in layer.mixers)
    for heads, cached, kind in dict.fromkeys(_heads(mixer) for mixer in mixers):
        if heads % tensor:
            found.append(f"{tensor} does not divide {model.name}'s {heads} {kind}; write a divisor")
        elif cached and cached % tensor and tensor % cached:
            found.append(
                f"{tensor} is neither a divisor nor a multiple of {model.name}'s {cached}"
                " KV heads; write one"
            )
    ffns = dict.fromkeys(ffn for layer in model.stack for ffn in layer.ffns)
    widths = {(ffn.width, tensor) for ffn in ffns if isinstance(ffn, DenseFfn)}
    widths |= {(ffn.expert_hidden, cut) for ffn in ffns if isinstance(ffn, Moe)}
    found += [
        f"{parts} does not divide {model.name}'s FFN width {width}; write a divisor"
        for width, parts in sorted(widths)
        if width % parts
    ]
    return found


def _heads(mixer: Mixer) -> tuple[int, int, str]:
    """Heads that GPUs share, KV heads of which each has at least one, and what they are called."""
    if isinstance(mixer, GroupedAttention | CrossAttention):
        return mixer.heads or 0, mixer.kv_heads or 0, "heads"
    if isinstance(mixer, LatentAttention | CompressedAttention):
        return mixer.query_heads, 0, "heads"
    if isinstance(mixer, GatedDeltaNet):
        return mixer.value_heads, mixer.key_heads, "heads of linear attention"
    if isinstance(mixer, KimiDeltaAttention | LightningAttention):
        return mixer.heads, 0, "heads of linear attention"
    if isinstance(mixer, Mamba2):
        return mixer.heads, mixer.groups, "heads of a state space"
    return mixer.width, 0, "channels"


@dataclass(frozen=True, slots=True)
class ServerLink:
    """A link as one server has it: bandwidths in bytes per second, latency in nanoseconds.

    Args:
        name: `source-target`.
        source: tier that `bytes_per_s` leads away from.
        target: tier that `bytes_per_s` leads to.
        bytes_per_s: from source to target.
        reverse_bytes_per_s: from target to source.
        latency_ns: of a transfer, in either direction.
        group: name of the shared resource, or None.
    """

    name: str
    source: str
    target: str
    bytes_per_s: float
    reverse_bytes_per_s: float
    latency_ns: int
    group: str | None


def server_links(machine: Machine, gpus: int) -> tuple[ServerLink, ...]:
    """Give a server that uses `gpus` of a machine's GPUs its links, in the machine's order.

    A machine's figure for a link that ends at HBM is the sum over its GPUs, so a server has
    gpus / count of it. A link to a peer belongs to one GPU as it is; every other link serves the
    whole machine.
    """
    return tuple(_server_link(machine, link, gpus) for link in machine.links)


def _server_link(machine: Machine, link: Link, gpus: int) -> ServerLink:
    kinds = {machine.tier(link.source).kind, machine.tier(link.target).kind}
    share = gpus / machine.gpu.count if "hbm" in kinds and "peer" not in kinds else 1.0
    return ServerLink(
        name=link.name,
        source=link.source,
        target=link.target,
        bytes_per_s=link.bandwidth.value * share,
        reverse_bytes_per_s=link.reverse_bandwidth.value * share,
        latency_ns=link.latency.value,
        group=link.group,
    )


def check_peer(
    machine: Machine, gpus: int, tiers: tuple[str, ...], *, file: str = "scenario"
) -> None:
    """Refuse a peer tier that no GPU is left free for.

    Args:
        machine: whose GPUs.
        gpus: how many the server uses.
        tiers: names of the tiers it uses.
        file: the name that faults give.

    Raises:
        InputError: if a tier of kind peer is used and the server takes every GPU.
    """
    faults = [
        Fault(
            file,
            f"'{name}' is the HBM of a GPU left free, and the server uses all {gpus}; leave this"
            " tier out or lower parallel",
            place=f"tiers.{index}.tier",
        )
        for index, name in enumerate(tiers)
        if machine.tier(name).kind == "peer" and gpus >= machine.gpu.count
    ]
    if faults:
        raise InputError(faults)
