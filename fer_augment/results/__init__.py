"""What runs show: comparisons, verdicts, and what is behind them."""
