"""Plain kernels that say what a memory can do: reads, writes, copies, gathers."""
