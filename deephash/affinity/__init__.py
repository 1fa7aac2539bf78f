"""Which items are neighbours: ground truth for ranking, and supervision for training."""
