"""Logits processors: functions that change the scores of the next token before it is chosen."""
