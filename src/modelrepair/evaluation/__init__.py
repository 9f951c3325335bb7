"""What was found, what was repaired and what broke: numbers (no tensors needed) and pictures."""
