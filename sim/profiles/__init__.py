"""Rules and host times of serving engines."""
