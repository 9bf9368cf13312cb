"""Pages from slot to slot, by copy engine or by multiprocessors."""
