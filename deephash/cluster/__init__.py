"""Work on data that fit no machine: shards, the processes that share them, and what they find put together."""
