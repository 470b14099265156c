"""Rows from files: history and HR read the same way, whatever wrote the file."""
