"""`bottleneck bench`: the usual loop, peers, every engine and the ceilings, side by side in one run."""
