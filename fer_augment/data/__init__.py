"""Images with their provenance, and what is known and kept of them."""
