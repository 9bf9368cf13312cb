"""The model: its shape, its bytes and FLOPs, how it is split over GPUs, and the catalogue."""
