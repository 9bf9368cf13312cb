"""What a layer is made of: mixers (attention and what takes its place) and FFNs."""
