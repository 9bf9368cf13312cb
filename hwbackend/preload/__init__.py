"""The library that stands between programs and the CUDA driver: built, run and read here."""
