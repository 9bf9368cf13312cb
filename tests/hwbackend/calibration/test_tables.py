"""Tables of samples: what is no plain median of one point."""

import numpy as np
import pytest

from vsim.hwbackend.calibration.tables import curves_of
from vsim.traces.gpu_samples import GpuSamples, Sampled, point


def test_tables_hold_what_a_prefix_adds() -> None:
    """By hand: 10 us alone; 2,048 tokens add 60 and 8,192 add 248: 30 and 31 for 1,024 of them."""
    rows = tuple(
        Sampled(
            point("prefill_attention", "hbm", prompts=1, tokens=128, prefix=prefix, heads=32,
                  kv_heads=8, head_dim=128),
            0, (us,),
        )
        for prefix, us in ((0, 10.0), (2048, 70.0), (8192, 258.0))
    )  # fmt: skip
    (found,) = (each for each in curves_of(GpuSamples({}, rows)) if each.variant == "prefix")
    assert found.shapes.tolist() == [[32, 8, 128, 0]]
    assert (found.first.tolist(), found.second.tolist()) == ([128.0], [2048.0, 8192.0])
    assert np.exp(found.log_ns[0, 0]) == pytest.approx([30_000, 31_000])
