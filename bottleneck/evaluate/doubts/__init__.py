"""When not to trust an answer or a label: thresholds for abstaining, novelty, likely wrong labels."""
