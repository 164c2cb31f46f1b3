"""What is installed here, what works, and known issues with their cures."""
