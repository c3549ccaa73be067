"""The tables and figures of Ganguli et al., from finished runs. To add one: a file here, and a line in __main__.py."""
