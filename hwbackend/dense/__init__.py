"""The dense parts of a step as work on a GPU: products, experts, small kernels, all-reduces."""
