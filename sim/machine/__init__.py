"""The machine: tiers, links, GPUs and virtual-memory calls, and the catalogue of known ones."""
