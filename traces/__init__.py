"""Arrow traces: schemas, readers, importers, generators and recorders."""
