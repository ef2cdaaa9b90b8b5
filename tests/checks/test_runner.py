"""What the runner does with rules: OX001 where one stops, OX002 where nothing can be read."""
