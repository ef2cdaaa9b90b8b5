"""What each operator does to shapes, types, small constants and multiply-accumulate counts: one function per op."""
