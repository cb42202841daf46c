"""Tar files as lists of samples: read by place, never unpacked. Knows members, and no record."""
