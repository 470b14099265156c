"""One module per revision, each with its statements in a `.sql` file of the same name."""
