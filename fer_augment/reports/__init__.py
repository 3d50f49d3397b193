"""What people look at: the terminal's tables and the HTML report, made from records without torch."""
