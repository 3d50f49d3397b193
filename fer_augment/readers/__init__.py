"""Data set readers, one module per format, found through entry points."""
