"""What tools and notebooks call. Nothing is imported here, so that a tool's ``--help`` is fast."""
