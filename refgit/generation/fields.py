"""What each field of a GenerationConfig may be."""

from __future__ import annotations

from typing import Any

from refgit.generation.search.legacy.constraints import Constraint, are_forced_words
from refgit.validation import (
    Rule,
    are_id_lists,
    are_ids,
    are_strings,
    is_biases,
    is_decay,
    is_flag,
    is_id_or_ids,
    is_integer,
    is_number,
    is_positive,
    is_size,
    or_none,
)


def _is_one_of_the_stops(value: Any) -> bool:
    return isinstance(value, bool) or value == "never"


def _is_one_of_the_scorings(value: Any) -> bool:
    return isinstance(value, str) and value in ("transformers", "microsoft")


def _are_constraints(value: Any) -> bool:
    several = isinstance(value, list | tuple) and len(value) > 0
    return several and all(isinstance(x, Constraint) for x in value)


# What is expected of each field, and whether a value is that.
RULES: tuple[Rule, ...] = (
    ("max_length num_beams num_beam_groups num_return_sequences", "a positive integer", is_size),
    ("max_new_tokens", "None or a positive integer", or_none(is_size)),
    ("min_length", "an integer of at least 0", is_integer),
    ("min_new_tokens top_k no_repeat_ngram_size encoder_no_repeat_ngram_size",
     "None or an integer of at least 0", or_none(is_integer)),
    ("early_stopping", 'True, False or "never"', _is_one_of_the_stops),
    ("max_time temperature penalty_alpha diversity_penalty", "None or a number of at least 0",
     or_none(lambda x: is_number(x, 0))),
    ("top_p min_p typical_p", "None or a number from 0 to 1",
     or_none(lambda x: is_number(x, 0, 1))),
    ("epsilon_cutoff eta_cutoff", "None or a number of at least 0 and below 1",
     or_none(lambda x: is_number(x, 0) and x < 1)),
    ("repetition_penalty encoder_repetition_penalty", "None or a number above 0",
     or_none(is_positive)),
    ("length_penalty", "a number", is_number),
    ("beam_scoring", '"transformers" or "microsoft"', _is_one_of_the_scorings),
    ("guidance_scale", "None or a number", or_none(is_number)),
    ("stop_strings", "None, a string or a list of strings, none of them empty",
     or_none(are_strings)),
    ("do_sample use_cache renormalize_logits remove_invalid_values no_immediate_repeat "
     "output_attentions output_hidden_states output_scores return_dict_in_generate",
     "True or False", is_flag),
    ("output_logits", "None, True or False", or_none(is_flag)),
    ("bad_words_ids", "None or a list of lists of token ids, none of them empty",
     or_none(are_id_lists)),
    ("force_words_ids", "None or a list of phrases (lists of token ids), or of lists of phrases",
     or_none(are_forced_words)),
    ("constraints", "None or a list of refgit.generation.search.legacy.constraints.Constraint",
     or_none(_are_constraints)),
    ("forced_bos_token_id pad_token_id bos_token_id",
     "None or a token id, which is an integer of at least 0", or_none(is_integer)),
    ("forced_eos_token_id eos_token_id",
     "None, a token id, which is an integer of at least 0, or a list of them",
     or_none(is_id_or_ids)),
    ("exponential_decay_length_penalty", "None or (start, factor), an integer and a number above 0",
     or_none(is_decay)),
    ("suppress_tokens begin_suppress_tokens", "None or a list of token ids", or_none(are_ids)),
    ("sequence_bias", "None, a mapping of tuples of token ids to numbers, or a list of such pairs",
     or_none(is_biases)),
)  # fmt: skip
