"""The passes: each file here is one, under its name with `-` for `_`; it defines `PASS`."""
