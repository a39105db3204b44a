"""What a service is and what becomes of it: pure, without I/O and without a clock."""
