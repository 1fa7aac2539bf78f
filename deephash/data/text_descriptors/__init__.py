"""Fixed maps from sentences to feature vectors."""
