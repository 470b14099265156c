"""On top of everything: migrations, the sandbox, the demo. Ships in the wheel, imported by nothing below."""
