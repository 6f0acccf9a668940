"""The command line: one file a verb, nothing heavy imported before a verb is chosen."""
