"""Tars as they lie: headers are read once, members at their place, nothing is unpacked."""
