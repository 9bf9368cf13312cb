"""The CUDA driver as typed Python; the only place that imports `cuda.bindings.driver`."""
