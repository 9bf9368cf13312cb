"""Machine files made of measurements: reading them, thinning them, and saying how well they serve."""
