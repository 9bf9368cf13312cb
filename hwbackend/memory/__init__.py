"""Memory by place: physical chunks, address ranges over them, and slots of pages over tiers."""
