"""Where HR leaves what it says."""
