"""What HR leaves in files: read whole, held against what is known, asked about where it is too much, then told."""
