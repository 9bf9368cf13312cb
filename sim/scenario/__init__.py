"""The scenario: what a run is made of, its workload, and which settings can act."""
