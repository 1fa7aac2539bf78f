"""From continuous projections to bits: one file per published quantiser."""
