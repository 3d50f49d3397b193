"""The catalogue of strategies in the documentation: its page and its pictures."""
