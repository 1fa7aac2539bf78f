"""Encode files or folders of items to files of packed codes, in blocks, so that memory does not grow with the items."""
