"""The GPUs that can be compiled for."""

ARCHITECTURES = {"sm_80": "ptx70", "sm_86": "ptx71", "sm_89": "ptx78", "sm_90": "ptx78"}
"""Architectures, each with the oldest version of PTX that knows it."""
