"""A local web page on which one looks at what runs find."""
