"""Features on disk: recipes and fingerprints, the feature file, sealed shards, `Features`."""
