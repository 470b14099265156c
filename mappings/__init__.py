"""What two customers would do differently, as data: from facts and rules to decisions. No network, no queue."""
