"""One way to draw: instances and class maps over pictures, and the hooks that do so in a run."""
