"""From a file or folder of items to a file of packed codes, in blocks: memory does not grow with the items."""
