"""The serving engine: compiled plan and commit kernels, and the drivers that give them time."""
