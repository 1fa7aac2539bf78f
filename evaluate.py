"""Score a saved run: `python evaluate.py run=FOLDER`, with other data, protocol, truth or depths as you set them."""

from deephash.command_line.programs.evaluate import main

if __name__ == "__main__":
    main()
