"""Machines and models that ship with vsim, one YAML file each."""
