"""The questions of `coursewire check`, each asked by itself: one that hangs or fails keeps no other from its answer."""
