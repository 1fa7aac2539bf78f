"""Web pages and servers: the demo and the user study."""
