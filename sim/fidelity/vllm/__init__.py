"""vLLM's own words: its log, its metrics and what its benchmark saves, as a measured run."""
