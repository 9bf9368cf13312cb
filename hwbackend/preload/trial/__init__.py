"""The library on a GPU: unmodified programs with and without it, and what memory calls cost."""
