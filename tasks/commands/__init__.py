"""The reading commands of `coursewire`, one noun each: what happened, and why not."""
