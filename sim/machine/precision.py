"""Precision: the number formats that weights and KV are held in."""

from typing import Literal

Precision = Literal["bf16", "fp8", "fp8_scaled", "int8", "int4", "mxfp4", "nvfp4"]
WeightPrecision = Literal["bf16", "fp8", "int8", "int4", "mxfp4", "nvfp4"]
