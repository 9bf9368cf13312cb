"""What runs on real hardware; the simulator never imports it."""
