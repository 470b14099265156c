"""What guards personal data and proves a sender: sealing, look-up keys, signatures, redaction."""
