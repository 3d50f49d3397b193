"""Results: comparisons of finished runs, tests against the baseline, warnings and confused images; torch-free."""
