"""The searches: ways to choose the tokens of a text, one step after the other."""
