"""Allocators over recorded allocations: what each would reserve, when it fails, what it costs."""
