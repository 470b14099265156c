"""What talks to what: the configuration and the rules as an auditor asks for them. `coursewire inventory` shows it."""
