"""`bottleneck bench --heads`: the heads here and what everybody uses, on the same folds, side by side."""
