"""Tasks of the paper, read from their official files, and tasks of one's own."""
