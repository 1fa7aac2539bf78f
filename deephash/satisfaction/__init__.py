"""Whether figures of retrieval tell what users feel: simulated users, interleaving, and how orders of systems agree."""
