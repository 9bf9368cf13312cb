"""Time the kernels of a serving step one by one, as vLLM calls them; runs where the GPU is.

`probe` measures, `recordings` writes what it measured as Arrow, `figures` prints tables of it.
"""
