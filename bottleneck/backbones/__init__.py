"""Frozen networks: what they are called, where their weights are, how they are cut."""
