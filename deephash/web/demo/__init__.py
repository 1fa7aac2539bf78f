"""A local web page for looking at the neighbours that runs find."""
