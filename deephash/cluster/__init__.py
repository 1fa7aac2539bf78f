"""Distributed work on data too large for one machine: shards, the processes that share them, and merged results."""
