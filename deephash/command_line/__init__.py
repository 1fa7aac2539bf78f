"""The `deephash` program: one file a command, each thin; the work is done by the modules beside the data flow.

Exit status, of every command: 0, done; 1, done, but a check failed, as rows that cannot be encoded; 2, wrong usage or
input, with one line on standard error; 130, interrupted.
"""
