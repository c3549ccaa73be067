"""What the site does beyond Sphinx: pages of commands, docstrings as they are written, pages of the repository."""
