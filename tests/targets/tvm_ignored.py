"""Samples that fail through TVM, with what is said of each. Entries are only ever taken away."""

IGNORED: dict[tuple[str, int], str] = {}

ENDLESS = {("Pow", 10)}
"""Samples that TVM's simplifier does not finish within minutes; nothing is said of them. Only taken away."""
