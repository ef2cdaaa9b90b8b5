"""What each operator does to shapes, types, small constants and MACs: one function per op."""
