"""The `deephash` program: one thin file for each command; other packages do the work.

Exit status of every command: 0, success; 1, done but a check failed, such as rows that cannot be encoded; 2, wrong
usage or input, with one line on standard error; 130, interrupted.
"""

import os

# torch and FAISS read this when they are imported. By default, a thread of theirs that waits for another one spins for
# up to 10 ms. On a busy machine, it uses up its share of a core and then delays the others when work arrives.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
