"""The canonical vocabulary: events in the past tense, commands in the imperative, people."""
