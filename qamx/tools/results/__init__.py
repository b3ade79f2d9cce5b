"""Results of many runs: tables with intervals, comparisons, and plans of studies."""
