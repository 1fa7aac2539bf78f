"""Score a saved run: `python evaluate.py run=FOLDER`, also with other data, protocol, truth or depths."""

from deephash.command_line.programs.evaluate import main

if __name__ == "__main__":
    main()
