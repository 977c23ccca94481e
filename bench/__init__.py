"""Measurements: single kernels against the machine's peak, whole models against other runtimes."""
