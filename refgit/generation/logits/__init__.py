r"""Logits processors: functions that change the scores of the next token before it is chosen.

Each is made once and called at every step, ``processor(input_ids, scores) -> scores``, with the
ids so far (B, T) and the scores s of the next token (B, V), float32 or float64. None changes its
arguments. s'_v is what becomes of the score of token v, and :math:`p_v = e^{s_v} / \sum_w e^{s_w}`.
"""
