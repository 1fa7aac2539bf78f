"""The `deephash` program: one thin file for each command; other packages do the work.

Exit status of every command: 0, success; 1, done but a check failed, such as rows that cannot be encoded; 2, wrong
usage or input, with one line on standard error; 130, interrupted.
"""
