"""Samples that fail through TVM, with what is said of each. Entries are only ever taken away."""

IGNORED: dict[tuple[str, int], str] = {}
