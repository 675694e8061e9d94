"""The learning curve: nested subsets, scores by size, a power law and what it forecasts."""
