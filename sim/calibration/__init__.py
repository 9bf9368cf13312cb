"""Machine files made of measurements: reading these, thinning them, saying how well they serve."""
