"""CUDA C++ to machine code by NVRTC, which needs no GPU."""
