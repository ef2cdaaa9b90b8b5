"""The command line: parse, call, render, exit code. Nothing heavy is imported before a command runs."""
