"""An unmodified CuPy program: products, sorts, transforms of many sizes; prints a digest."""

import hashlib
import json

import cupy

from vsim.hwbackend.preload.trial.rounds import run_rounds


def main() -> None:
    """Run some rounds and print what they computed and the seconds of the fastest one."""
    pool = cupy.get_default_memory_pool()
    found = hashlib.sha256()

    def work(turn: int) -> None:
        results = []
        for size in range(20):
            count = 300_003 + 150_001 * ((size * 7) % 11)
            x = (cupy.arange(count, dtype=cupy.float32) * 0.37 + turn) % 17.0
            y = cupy.sort(x) + cupy.cumsum(x.astype(cupy.int64))  # whole numbers: in any order
            results.append(float(y[::101].sum().get()))
            a = x[:262_144].reshape(512, 512)
            results.append(float((a @ a.T)[::7].sum().get()))
            if size % 5 == 4:
                pool.free_all_blocks()
        found.update(repr(results).encode())

    def settle() -> None:
        cupy.zeros(1)
        cupy.cuda.Device().synchronize()

    times = run_rounds(work, settle, alone=16, first=1)
    peak = pool.total_bytes()
    pool.free_all_blocks()
    print(json.dumps({"digest": found.hexdigest()[:24], "work_s": min(times),
                      "peak_reserved": peak}))  # fmt: skip


if __name__ == "__main__":
    main()
