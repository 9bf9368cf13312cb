"""What is asked of vLLM's worker processes: other weights, choices of experts, kernels' times, and
the engine's clock where one process is both."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from vsim.hwbackend.servers.engine_clock import EngineClock, clock_of_engine

STD: Final = 0.02  # the models' own initializer_range
DUMMY: Final = 1e-3  # vLLM's dummy weights are uniform within this
FP8_MAX: Final = 448.0
FP8_STD: Final = FP8_MAX / 4


def _draw_fp8(weight: torch.Tensor, scale: torch.Tensor) -> None:
    drawn = torch.empty(weight.shape, dtype=torch.bfloat16, device=weight.device)
    drawn.normal_(0.0, FP8_STD).clamp_(-FP8_MAX, FP8_MAX)
    weight.copy_(drawn.to(weight.dtype))
    scale.fill_(STD / FP8_STD)


class WeightsExtension:
    """Methods that vLLM mixes into its workers (`worker_extension_cls`), called on all of them."""

    get_model: Callable[[], nn.Module]
    """The worker's own. Only declared: vLLM refuses an extension that has an attribute of it."""

    def draw_weights(self, how: str) -> dict[str, int]:
        """Overwrite all weights in place, where the captured CUDA graphs read them.

        Args:
            how: `normal`: matrices N(0, 0.02), norms the identity. `dummy`: all uniform within
                1e-3, norms included, as vLLM's dummy loader leaves them; not for fp8.

        Returns:
            How many parameters of each kind were drawn.
        """
        if how not in ("normal", "dummy"):
            raise ValueError(f"weights can be drawn normal or dummy, not {how!r}")
        counts = {"matrices": 0, "vectors": 0, "fp8": 0}
        torch.manual_seed(0)
        with torch.no_grad():
            for module in self.get_model().modules():
                for name, parameter in module.named_parameters(recurse=False):
                    self._draw(module, name, parameter.data, how, counts)
        torch.cuda.synchronize()
        return counts

    def _draw(
        self, module: nn.Module, name: str, data: torch.Tensor, how: str, counts: dict[str, int]
    ) -> None:
        if data.dtype == torch.float8_e4m3fn:
            if how == "normal":
                _draw_fp8(data, getattr(module, f"{name}_scale").data)
                counts["fp8"] += 1
        elif not data.is_floating_point() or "scale" in name:
            return
        elif how == "dummy":
            data.uniform_(-DUMMY, DUMMY)
            counts["matrices" if data.dim() > 1 else "vectors"] += 1
        elif data.dim() > 1:
            data.normal_(0.0, STD)
            counts["matrices"] += 1
        else:
            is_offset = type(module).__name__.startswith("Gemma")  # these multiply by 1 + weight
            data.fill_(0.0 if name == "bias" or is_offset else 1.0)
            counts["vectors"] += 1

    def count_experts(self) -> int:
        """Start to count the experts chosen in steps that no CUDA graph covers; returns layers."""
        self._chosen: dict[str, torch.Tensor] = {}
        for name, module in self.get_model().named_modules():
            router: Any = getattr(module, "router", None)
            if not hasattr(router, "set_capture_fn"):
                continue
            counts = torch.zeros(1024, dtype=torch.int64, device="cuda")
            self._chosen[name] = counts

            def add(ids: torch.Tensor, counts: torch.Tensor = counts) -> None:
                if not torch.cuda.is_current_stream_capturing():
                    flat = ids.flatten().to(torch.int64)
                    counts.scatter_add_(0, flat, torch.ones_like(flat))

            router.set_capture_fn(add)
        return len(self._chosen)

    def chosen_experts(self) -> dict[str, list[int]]:
        """Stop counting and return how often each expert was chosen, by layer."""
        for module in self.get_model().modules():
            router: Any = getattr(module, "router", None)
            if hasattr(router, "set_capture_fn"):
                router.set_capture_fn(None)
        return {name: _trimmed(counts.tolist()) for name, counts in self._chosen.items()}

    def start_trace(self) -> None:
        """Start to note the time of each kernel, copy and call of the driver."""
        from torch.profiler import ProfilerActivity, profile

        self._profile = profile(activities=[ProfilerActivity.CUDA])
        self._profile.start()

    def stop_trace(self) -> dict[str, list[Any]]:
        """Stop and return the events in order of start; times in ns, `start` since the first."""
        torch.cuda.synchronize()
        self._profile.stop()
        events = sorted(
            (e.start_ns(), e.duration_ns(), e.name(), str(e.device_type()))
            for e in self._profile.profiler.kineto_results.events()
        )
        names = sorted({name for _, _, name, _ in events})
        places = sorted({place for *_, place in events})
        numbers = {name: number for number, name in enumerate(names)}
        first = events[0][0] if events else 0
        return {
            "names": names,
            "places": places,
            "start": [start - first for start, *_ in events],
            "duration": [duration for _, duration, *_ in events],
            "name": [numbers[name] for _, _, name, _ in events],
            "place": [places.index(place) for *_, place in events],
        }

    def start_clock(self) -> None:
        """Start to time what the engine's thread does; with one GPU the worker lives there."""
        if not hasattr(self, "_clock"):
            self._clock: EngineClock = clock_of_engine()
        self._clock.start()

    def stop_clock(self, path: str) -> int:
        """Write what was timed into a file; returns how many calls."""
        return self._clock.stop(Path(path))


def _trimmed(counts: list[int]) -> list[int]:
    while counts and counts[-1] == 0:
        counts.pop()
    return counts


def extension_name() -> str:
    """Return what `worker_extension_cls` is set to."""
    kind: Any = WeightsExtension
    return f"{kind.__module__}.{kind.__qualname__}"
