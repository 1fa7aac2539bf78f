"""Limits of all servers of deephash: who may send requests, how large they are, and how long they take."""
