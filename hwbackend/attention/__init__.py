"""Attention over paged keys and values: layout, plans, kernels and their references."""
