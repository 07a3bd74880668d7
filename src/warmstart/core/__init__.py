"""Errors, records, options, metrics and statistics: standard library and numpy only."""
