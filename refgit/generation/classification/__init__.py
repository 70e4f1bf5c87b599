"""Classification by generation: labels ranked by their probability as the text below an image."""
