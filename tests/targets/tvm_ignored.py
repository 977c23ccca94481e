"""Samples that fail through TVM, with what is said of each. Entries are only ever taken away."""

IGNORED: dict[tuple[str, int], str] = {}

FATAL = {("Pow", 10): "Segmentation fault"}
"""Samples that end the process: TVM's simplifier calls itself until the stack is full. Only taken away."""
