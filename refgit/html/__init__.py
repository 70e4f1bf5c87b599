"""Pages that are one HTML file: what the report and the explorer share."""
