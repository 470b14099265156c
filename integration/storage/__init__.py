"""What is kept in Postgres, the only truth: tables, and set-based SQL beside the functions that run it."""
