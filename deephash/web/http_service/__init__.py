"""Limits of all servers of deephash on the senders, the size and the duration of requests."""
