"""History of learning from files: what a mapping makes of rows, and how these are taken in, chunk by chunk."""
