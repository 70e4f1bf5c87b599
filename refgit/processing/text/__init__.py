"""Text to token ids and back: the BERT tokenizer."""
