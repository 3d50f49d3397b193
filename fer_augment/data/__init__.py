"""Image data sets with provenance, audits of them, and run records."""
