"""Fit a hasher and score it: `python train.py method=itq bits=64`; `python train.py --help` lists the choices."""

from deephash.command_line.programs.train import main

if __name__ == "__main__":
    main()
