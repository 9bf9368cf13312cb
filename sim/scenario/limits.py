"""Limits of settings: far beyond any server, and near enough that nothing overflows or hangs.

The engine counts time in ns and tokens in int64. `LATEST_NS` leaves a whole second half of that
range to what requests do after they have arrived.
"""

from typing import Final

LATEST_NS: Final = 1 << 60
"""Arrivals end before this: 36 years."""
MOST_REQUESTS_AT_ONCE: Final = 1 << 20
"""Requests in a batch, loading, or prefetched for."""
MOST_TOKEN_BUDGET: Final = 1 << 30
"""Tokens of one step; a request has no more (`vsim.traces.limits`)."""
MOST_RATE_SCALE: Final = 1e9
MOST_GPUS: Final = 1024
"""As many as a machine file may have."""
MOST_TIERS: Final = 32
LONGEST_TEXT: Final = 10_000
"""Characters of a name or a description."""
LONGEST_STEP_S: Final = 1e6
"""What one step or one transfer may take at the worst, eleven days: a mistake in a file, no
machine."""
