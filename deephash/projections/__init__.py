"""From features to continuous projections: one file per published method."""
