"""Runs programs in processes forked from one that has imported their packages, because imports take most of a run.

A request is a line of JSON: folder to run in, path, arguments, environment, and the files that take what is written to
standard output and standard error. The answer is a line with the exit status.
"""

import json
import os
import runpy
import sys


def become(folder, path, arguments, environment, out, err):
    """What the shell would do, in this process."""
    os.chdir(folder)
    for descriptor, name, mode in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        os.dup2(os.open(name, mode | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            become(**json.loads(line))
            sys.exit()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
