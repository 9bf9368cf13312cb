"""What a request trace may hold at most: one place for importers, checks, generators and runs.

The engine keeps times, tokens and their sums in int64, below 2^63 = 9.2e18. The limits leave room
for every sum that it takes over a whole trace:

- Times: arrivals, and the think times of a conversation one after the other, each end within 100
  years (3.2e18 ns), so that both together leave 92 years of simulated service.
- Tokens: prompt and answer of a request have 2^30 together, far beyond any model's context; the
  tokens of 2^31 requests then sum up to 2^61.
- Rows fit an int32, as priorities and tenants do. Ids may be any int64 that is not negative.
"""

from typing import Final

MOST_NS: Final = 100 * 365 * 24 * 3600 * 10**9
MOST_TOKENS: Final = 2**30
MOST_REQUESTS: Final = 2**31 - 1
MOST_BLOCK_TOKENS: Final = 2**20
MOST_TENANTS: Final = 1_000_000
LARGEST_PRIORITY: Final = 2**31 - 1
