"""The commands of `refgit`, a file each: `add_parser` declares one, `run` does it."""
