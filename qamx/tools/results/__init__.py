"""What many runs say together: tables with intervals, comparisons, and plans of studies."""
