"""Distributed work on data that do not fit one machine: shards, the processes that share them, and merged results."""
