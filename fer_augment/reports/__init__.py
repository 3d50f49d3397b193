"""Reports of results for the terminal, HTML, Markdown and CSV, made from records without torch."""
