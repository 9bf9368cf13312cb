"""The simulator's commands: what each does, and how it stands on the command line."""
