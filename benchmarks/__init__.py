"""What hopwatch costs, measured: ``make bench`` (docs/performance.md says what came out)."""
