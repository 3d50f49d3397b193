"""The readers of data sources; each format is a module that offers itself, and is imported by nobody."""
