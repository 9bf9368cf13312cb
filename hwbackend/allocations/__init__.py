"""Recordings of what programs ask PyTorch's caching allocator for, and what it takes itself."""
