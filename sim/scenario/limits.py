"""Limits of settings: far beyond any server, and near enough that nothing overflows or hangs."""

from typing import Final

MOST_REQUESTS_AT_ONCE: Final = 1 << 20
"""Requests in a batch, loading, or prefetched for."""
MOST_TOKEN_BUDGET: Final = 1 << 30
"""Tokens of one step; no request has more."""
MOST_RATE_SCALE: Final = 1e9
"""And 1 over it at least."""
MOST_GPUS: Final = 1024
"""As many as a machine file may have."""
MOST_TIERS: Final = 32
"""As many as a machine file may have."""
MOST_TRACES: Final = 1024
"""Traces of attention in one batch."""
LONGEST_STEP_S: Final = 1e6
"""What one step or transfer may take at the worst: 11 days. A file that asks for more is wrong."""
MOST_SEARCH_S: Final = 24 * 3600.0
"""Seconds that searches may take in one command, all cases together."""
