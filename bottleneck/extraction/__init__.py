"""Extraction: what is known, what is missing, and the pipeline that computes it."""
