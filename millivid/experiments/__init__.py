"""The comparison: rows, bounds, tables."""
