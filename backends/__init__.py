"""Targets: each file or folder here declares its `TARGETS`."""
