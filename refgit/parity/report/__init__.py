"""The report of `refgit compare`: one HTML file."""
