"""Live parity of generation with transformers 4.56.2: every search, hundreds of draws each.

A draw is a tiny model (absolute or relative positions, images or videos), prompts and arguments;
ids must be equal, and so must scores, logits, beams, attentions and hidden states.

- hypothesis draws a seed, and NumPy nearly all else from it: hypothesis itself varies what it drew
  before, so that some arguments come often and others hardly; independent draws can be counted on.

- What is drawn at random gets the same numbers on both sides, through torch.multinomial.
- The oracle's cache is wrong with relative positions: there it runs without.
- It has no contrastive search of its own: that is written out below, by whole forward passes.
- Ids may differ where two candidates are equal to rounding. Such a draw is told by further runs,
  in float64 and with weights 1e-6 off: if refgit itself then decides otherwise, it is a tie. They
  are counted, and rare.

    OMP_NUM_THREADS=1 python -m pytest -s tests/live/test_generation_live.py
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from helpers.oracle import at_work, only, torch, transformers
from refgit import GitForCausalLM, testing, to_numpy
from refgit.generation.search import beam as beam_module
from refgit.processing.text.tokenizer import BertTokenizer

only("4")

pytestmark = [pytest.mark.oracle]

DRAWS = 320
POSITIONS = 26
WORDS = testing.CONFIG.vocab_size
ENDS = (2, 5, 9)  # words that may end a text; their bias is raised, else it hardly ever happens
Arguments = dict[str, Any]
IMPOSSIBLE = -1e6  # no text's score is so low, see `beams_agree`


# ---- models


@cache
def models(positions: str, frames: int | None, seed: int, bias: float) -> tuple[Any, Any, Any]:
    """refgit's model in float32 and float64, and the oracle's."""
    config = testing.CONFIG.replace(
        position_embedding_type=positions,
        num_image_with_embedding=frames,
        num_hidden_layers=1 + seed % 2,
        vision_config=testing.VISION.replace(num_hidden_layers=1),
        max_position_embeddings=POSITIONS,
    )
    weights = {
        k: to_numpy(x).copy() for k, x in testing.tiny_model(seed, config).state_dict().items()
    }
    weights["output.bias"][list(ENDS)] += np.float32(bias)
    ours = GitForCausalLM(config, _parameters=weights)
    exact = GitForCausalLM(
        config, dtype="float64", _parameters={k: x.astype(np.float64) for k, x in weights.items()}
    )
    with transformers.modeling_utils.no_init_weights():
        theirs = transformers.GitForCausalLM(
            transformers.GitConfig(**config.to_dict(), attn_implementation="eager")
        ).eval()
    theirs.load_state_dict({k: torch.from_numpy(x) for k, x in weights.items()}, assign=True)
    return ours, exact, theirs


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """The oracle says at every call that some searches will move elsewhere."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(level)


# ---- what is drawn


class Draw:
    """One example: the models, what both are called with, and what each alone is."""

    def __init__(
        self, data: st.DataObject, *, copies: int = 1, biases: tuple[float, ...] = (0.0, 2.5, 4.0)
    ) -> None:
        rng = self.rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        pick = self.pick = lambda *values: values[rng.integers(len(values))]
        positions = pick("absolute", "absolute", "relative_key", "relative_key_query")
        frames = pick(None, None, 2)
        self.ours, self.exact, self.theirs = models(
            positions, frames, pick(*range(6)), pick(*biases)
        )
        n_images = pick(1, 2, 3)
        shape = (n_images, *([] if frames is None else [pick(1, 2)]), 3, 8, 8)
        self.pixels = rng.standard_normal(shape).astype(np.float32)
        n_image = testing.IMAGE_TOKENS * (1 if frames is None else shape[1])
        self.prompt = pick(1, 2, 3, 4, 5)
        batch = n_images * pick(1, 1, 2)
        ordinary = np.setdiff1d(np.arange(WORDS), [0, *ENDS])
        self.ids = rng.choice(ordinary, (batch, self.prompt))
        self.eos: Any = pick(2, [2, 5], [5, 2, 9], 2, None)
        pad = pick(0, 0, 3, None)
        self.new = pick(*range(1, 10), 7, 8)
        if positions != "absolute":
            self.new = min(self.new, POSITIONS - n_image - self.prompt)
        self.shared: Arguments = {"eos_token_id": self.eos, "pad_token_id": pad}
        if pick(True, False):
            self.shared["max_length"] = self.prompt + self.new
        else:
            self.shared["max_new_tokens"] = self.new
        self.own: Arguments = {"attention_mask": np.ones((batch, self.prompt), np.int64)}
        self.other: Arguments = {
            # of fewer frames than the model knows, its cache cuts the image at the wrong place
            "use_cache": positions == "absolute"
            and frames in (None, shape[1])
            and pick(True, True, False),
            "attention_mask": torch.ones(batch, self.prompt, dtype=torch.int64),
        }
        self.copies = copies

    @property
    def ends(self) -> list[int]:
        return [] if self.eos is None else self.eos if isinstance(self.eos, list) else [self.eos]

    @property
    def pad(self) -> int:
        pad = self.shared["pad_token_id"]
        return pad if pad is not None else next(iter(self.ends), 0)

    def both(self, **arguments: Any) -> None:
        self.shared |= arguments

    def some(self, names: Iterable[str], most: int) -> list[str]:
        """Up to so many of the names, rather more than fewer."""
        return self.rng.permutation(sorted(names))[: self.pick(*range(most + 1), most)].tolist()

    def run(self, model: Any = None, **more: Any) -> Any:
        options = {**self.shared, **self.own, **more}
        try:
            return (model or self.ours).generate(self.pixels, self.ids, **copy.deepcopy(options))
        except ValueError as error:
            if "leave no token" in str(error) or "asks for texts of at least" in str(error):
                reject()  # arguments that contradict one another, of which the oracle makes junk
            raise

    def run_theirs(self, **more: Any) -> Any:
        options = {**self.shared, **self.other, **more}
        with at_work():
            return self.theirs.generate(
                pixel_values=torch.from_numpy(self.pixels),
                input_ids=torch.from_numpy(self.ids),
                **copy.deepcopy(options),
            )


def halfway(ids: Any, scores: Any) -> Any:
    """A caller's processor, for arrays and tensors alike."""
    step = ids.shape[1]
    return scores * 0.75 if step % 2 else scores + 0.25


def ours_by_length(ids: Any, scores: Any) -> Any:
    """A caller's processor that leans on ids and place."""
    last = (ids[:, -1:] % 5).astype(np.float32)
    return scores - np.float32(0.3) * last * (np.arange(scores.shape[1]) % 3 == 0)


def theirs_by_length(ids: Any, scores: Any) -> Any:
    last = ids[:, -1:] % 5
    return scores - 0.3 * last * (torch.arange(scores.shape[1]) % 3 == 0)


def stops_at_multiples(ids: Any, scores: Any, **_: Any) -> Any:
    """A caller's stopping criterion, for arrays and tensors alike."""
    return ids[:, -1] % 7 == 3


def allowed_words(b: int, ids: Any) -> list[int]:
    """A caller's prefix_allowed_tokens_fn: 16 words or so, by text, place and last word."""
    last = int(ids[-1])
    return [w for w in range(WORDS) if (w * 7 + last + len(ids) + b) % 10 < 7]


def draw_processors(draw: Draw, *, beams: bool, most: int = 3) -> list[str]:
    """Some of the arguments that make logits processors, with drawn values."""
    rng, pick = draw.rng, draw.pick
    words = lambda n: rng.integers(0, WORDS, n).tolist()  # noqa: E731
    values: dict[str, Callable[[], Any]] = {
        "repetition_penalty": lambda: pick(0.6, 1.3, 2.5),
        "no_repeat_ngram_size": lambda: pick(1, 2, 3),
        "bad_words_ids": lambda: [words(1), words(1), words(2), words(2), words(3)],
        "suppress_tokens": lambda: words(4),
        "begin_suppress_tokens": lambda: words(6),
        "forced_bos_token_id": lambda: pick(4, 7),
        "forced_eos_token_id": lambda: pick(2, 11) if beams else pick(2, 11, [5, 8]),
        "min_length": lambda: min(pick(2, 5, 9), draw.prompt + draw.new),
        "min_new_tokens": lambda: min(pick(1, 3, 6), draw.new),
        "exponential_decay_length_penalty": lambda: (pick(0, 1, 3), pick(0.8, 1.1, 1.6)),
        "sequence_bias": lambda: {
            tuple(words(1)): 3.0, tuple(words(2)): 8.0, tuple(words(1)): -2.5,
            tuple(words(3)): 20.0, **{(w, (w * 3 + 1) % WORDS): 5.0 for w in range(WORDS)},
        },
        "prefix_allowed_tokens_fn": lambda: allowed_words,
        "renormalize_logits": lambda: True,
        "remove_invalid_values": lambda: True,
        "encoder_no_repeat_ngram_size": lambda: pick(1, 2),
        "encoder_repetition_penalty": lambda: pick(0.5, 2.0),
        "logits_processor": lambda: None,
        "guidance_scale": lambda: pick(1.5, 3.0),
    }  # fmt: skip
    names = draw.some(values, most)
    striking = {
        "min_length", "min_new_tokens", "suppress_tokens", "begin_suppress_tokens",
        "prefix_allowed_tokens_fn", "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids",
        "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    }  # fmt: skip
    kept = []
    for name in names:
        if "exponential_decay_length_penalty" in names and (
            # the oracle makes NaN of an end token that was struck out before
            name in striking or draw.eos is None
        ):
            continue
        # it does not follow beams, scales the first rows alone, caches what it should not
        if name == "encoder_repetition_penalty" and (beams or draw.copies > 1):
            continue
        if name == "guidance_scale" and (
            beams or draw.ours.config.position_embedding_type != "absolute"
        ):
            continue
        if name == "min_length" and "min_new_tokens" in names:
            continue  # the one takes the other's place
        if name in ("forced_eos_token_id",) and beams and "min_length" in names:
            continue
        kept.append(name)
        if name == "logits_processor":
            two = pick(True, False)
            draw.own[name] = [halfway, ours_by_length][: 1 + two]
            draw.other[name] = transformers.LogitsProcessorList(
                [halfway, theirs_by_length][: 1 + two]
            )
        else:
            draw.both(**{name: values[name]()})
    return kept


# ---- comparing


def ids_of(x: Any) -> np.ndarray:
    return to_numpy(getattr(x, "sequences", x))


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.shape == wanted.shape and bool((found == wanted).all())


def of_one_width(x: np.ndarray, y: np.ndarray, fill: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays (R, T), the shorter rows filled up."""
    missing = y.shape[1] - x.shape[1]
    wider = [
        np.pad(a, ((0, 0), (0, max(0, n))), constant_values=fill)
        for a, n in ((x, missing), (y, -missing))
    ]
    return wider[0], wider[1]


def possible_texts(found: Any) -> np.ndarray:
    """Which texts have a score that a text can have, see `beams_agree`; without beams, all."""
    scores = getattr(found, "sequences_scores", None)
    return np.ones(len(found), bool) if scores is None else to_numpy(scores) > IMPOSSIBLE


def beams_agree(draw: Draw, found: Any, wanted: Any, tally: Counter[str], **more: Any) -> bool:
    """Whether the texts of a beam search are equal; else it must be a tie, and that is counted.

    Where fewer texts than beams are possible (most words forbidden, say), those returned last have
    a score of minus infinity, or of -1e9 over a power of their length, and are whatever the sorting
    leaves there: at -1e9 float32 tells no word from another. They are not compared, and whether
    there are any is such a tie.
    """
    rows = possible_texts(found)
    ours, theirs = ids_of(found), ids_of(wanted)
    if wanted.sequences_scores is not None and (rows != possible_texts(wanted)).any():
        tally["ties"] += 1
        return False
    if not rows.all():
        ours, theirs = (x[rows] for x in of_one_width(ours, theirs, 0))
    if same(ours, theirs):
        return True
    assert is_tie(draw, ids_of(found), **more), f"{ids_of(found)} != {ids_of(wanted)}"
    tally["ties"] += 1
    return False


def is_tie(draw: Draw, found: np.ndarray, of: Callable[[Any], Any] = ids_of, **more: Any) -> bool:
    """Whether rounding decided: refgit decides otherwise in float64 or with weights 1e-6 off."""
    rng, weights = np.random.default_rng(0), draw.ours.state_dict()
    others = [draw.exact]
    for _ in range(6):
        off = {k: x * (1 + 1e-6 * rng.standard_normal(x.shape)) for k, x in weights.items()}
        off = {k: x.astype(np.float32) for k, x in off.items()}
        others.append(GitForCausalLM(draw.ours.config, _parameters=off))
    return any(not same(found, to_numpy(of(draw.run(other, **more)))) for other in others)


def close(found: Any, wanted: Any, what: str = "") -> None:
    """Equal infinities, and else equal to 2e-4 of the largest magnitude: weights are sharp here."""
    found, wanted = to_numpy(found), np.asarray(wanted)
    assert found.shape == wanted.shape, what
    finite = np.isfinite(wanted) & (np.abs(wanted) < 1e30)
    np.testing.assert_array_equal(np.isfinite(found) & (np.abs(found) < 1e30), finite, what)
    scale = max(1.0, float(np.abs(wanted[finite]).max(initial=0)))
    np.testing.assert_allclose(
        found[finite], wanted[finite], rtol=2e-4, atol=2e-4 * scale, err_msg=what
    )


def running(scores: np.ndarray, filler: int) -> np.ndarray:
    """Rows that have not ended: those that ended go on with the filler for certain."""
    certain = np.isneginf(np.delete(scores, filler, axis=1)).all(axis=1) & (scores[:, filler] == 0)
    return np.asarray(~certain)


def compare_steps(found: Any, wanted: Any, draw: Draw, tally: Counter[str]) -> None:
    """Scores, logits, attentions and hidden states of the rows that have not ended."""
    assert len(found.logits) == len(wanted.logits) == len(found.scores)
    for t in range(len(found.logits)):
        rows = running(to_numpy(found.logits[t]), draw.pad)
        tally["ended before others"] += bool((~rows).any())
        close(to_numpy(found.logits[t])[rows], wanted.logits[t].numpy()[rows], f"logits {t}")
        if wanted.scores is not None:
            close(to_numpy(found.scores[t])[rows], wanted.scores[t].numpy()[rows], f"scores {t}")
        compare_layers(found, wanted, t, np.flatnonzero(rows), np.flatnonzero(rows))


def compare_layers(found: Any, wanted: Any, t: int, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Attentions and hidden states of step t; the oracle reads the image again every time."""
    for name in ("attentions", "hidden_states"):
        if getattr(found, name) is None:
            continue
        for x, y in zip(getattr(found, name)[t], getattr(wanted, name)[t], strict=True):
            x, y = to_numpy(x)[ours], y.numpy()[theirs]
            y = y[..., -x.shape[-2] :, :]  # the queries are text
            close(x, y, f"{name} {t}")


def outputs(draw: Draw, *, scores: bool = True) -> Arguments:
    """Ask for everything, in some of the draws."""
    wanted: Arguments = {"return_dict_in_generate": True, "output_logits": True}
    wanted["output_scores"] = scores
    if draw.pick(True, False, False):
        wanted |= {"output_attentions": True, "output_hidden_states": True}
    return wanted


def look(draw: Draw, ids: np.ndarray, tally: Counter[str]) -> None:
    """Count what the draw was like."""
    words = ids[:, draw.prompt :]
    tally["draws"] += 1
    ended = [int(np.isin(row, draw.ends).argmax()) if np.isin(row, draw.ends).any() else -1
             for row in words]  # fmt: skip
    tally["an end"] += any(n >= 0 for n in ended)
    tally["uneven"] += len(set(ended)) > 1
    tally["early"] += words.shape[1] < draw.new
    tally["several rows"] += len(draw.ids) > 1
    tally["several texts an image"] += len(draw.ids) > len(draw.pixels)
    tally["relative"] += draw.ours.config.position_embedding_type != "absolute"
    tally["videos"] += draw.pixels.ndim == 5
    tally["five words or more"] += words.shape[1] >= 5
    tally["several ends"] += len(draw.ends) > 1


def worth(tally: Counter[str], name: str, draws: int = DRAWS, **least: float) -> None:
    """Assert that there were so many draws, few ties, and that they were of all kinds."""
    print(f"\n{name}: {dict(tally)}", end="")
    assert tally["draws"] >= draws
    assert tally["ties"] <= 0.02 * tally["draws"]
    shares = {
        "an end": 0.3, "early": 0.1, "several rows": 0.3, "relative": 0.2, "videos": 0.1,
        "five words or more": 0.2, "several ends": 0.1,
    } | {k.replace("_", " "): x for k, x in least.items()}  # fmt: skip
    for kind, share in shares.items():
        assert tally[kind] >= share * draws, kind


def drawn(check: Callable[[st.DataObject], None], draws: int = DRAWS) -> None:
    """Run a check on so many draws."""
    options: Arguments = {
        "max_examples": draws,
        "deadline": None,
        "database": None,
        "suppress_health_check": list(HealthCheck),
        "phases": (Phase.explicit, Phase.generate),
    }
    settings(**options)(given(data=st.data())(check))()


# ---- greedy search


def test_greedy_search_with_every_processor() -> None:
    tally: Counter[str] = Counter()

    def check(data: st.DataObject) -> None:
        draw = Draw(data)
        names = draw_processors(draw, beams=False, most=4)
        if draw.eos is not None and draw.pick(True, False, False):
            names.append("stopping_criteria")
            draw.own["stopping_criteria"] = [stops_at_multiples]
            draw.other["stopping_criteria"] = transformers.StoppingCriteriaList(
                [stops_at_multiples]
            )
        draw.both(**outputs(draw))
        found, wanted = draw.run(), draw.run_theirs()
        look(draw, ids_of(found), tally)
        tally.update(names)
        if not same(ids_of(found), ids_of(wanted)):
            assert is_tie(draw, ids_of(found)), f"{ids_of(found)} != {ids_of(wanted)}"
            tally["ties"] += 1
            return
        compare_steps(found, wanted, draw, tally)

    drawn(check, 450)
    worth(tally, "greedy", 450, ended_before_others=0.2, several_texts_an_image=0.1)
    rare = {"guidance_scale", "exponential_decay_length_penalty"}
    for name in ("repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens",
                 "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id",
                 "min_length", "min_new_tokens", "exponential_decay_length_penalty",
                 "sequence_bias", "prefix_allowed_tokens_fn", "renormalize_logits",
                 "remove_invalid_values", "encoder_no_repeat_ngram_size",
                 "encoder_repetition_penalty", "logits_processor", "guidance_scale",
                 "stopping_criteria"):  # fmt: skip
        assert tally[name] >= (5 if name in rare else 20), name


# ---- beams


def draw_beams(draw: Draw, *, least: int = 2) -> None:
    beams = draw.pick(*range(least, 6))
    draw.both(
        num_beams=beams,
        length_penalty=draw.pick(1.0, 0.6, 0.0, -1.0, 2.0),
        early_stopping=draw.pick(False, True, "never"),
        num_return_sequences=draw.pick(*range(1, beams + 1)),
    )


def compare_beams(
    found: Any, wanted: Any, draw: Draw, tally: Counter[str], *, indices: bool = True, **more: Any
) -> None:
    """Scores of the texts and, along their beams, what each word was decided by."""
    rows = possible_texts(found)  # see `beams_agree`
    scores = to_numpy(found.sequences_scores), wanted.sequences_scores.numpy()
    close(scores[0][rows], scores[1][rows], "sequences_scores")
    ours = to_numpy(found.beam_indices)[rows]
    if indices:
        theirs = wanted.beam_indices.numpy()[rows]
        if not same(*of_one_width(ours, theirs, -1)):  # two beams have changed places
            places = to_numpy(found.beam_indices)
            assert is_tie(draw, places, lambda out: out.beam_indices, **more), f"{ours} != {theirs}"
            tally["ties"] += 1
            return
        for t, column in enumerate(ours.T):
            beams = np.unique(column[column >= 0])
            close(to_numpy(found.logits[t])[beams], wanted.logits[t].numpy()[beams], "logits")
            close(to_numpy(found.scores[t])[beams], wanted.scores[t].numpy()[beams], "scores")
            compare_layers(found, wanted, t, beams, beams)


def words_add_up(found: Any, draw: Draw) -> None:
    """Along its beams, a text's words sum to its score times the power of its length.

    With several end tokens groups and forced words write the first, whichever it was.
    """
    if len(draw.ends) > 1 and {"num_beam_groups", "force_words_ids"} & set(draw.shared):
        return
    ids, origins = ids_of(found)[:, draw.prompt :], to_numpy(found.beam_indices)
    totals = to_numpy(found.sequences_scores)
    for row, beams, total in zip(ids, origins, totals, strict=True):
        n = int((beams >= 0).sum())
        if n == 0 or not np.isfinite(total) or total <= IMPOSSIBLE:
            continue
        steps = [to_numpy(found.scores[t])[beams[t], row[t]] for t in range(n)]
        penalty = draw.shared["length_penalty"]
        np.testing.assert_allclose(np.sum(steps) / n**penalty, total, rtol=2e-4, atol=2e-4)


def test_beam_search() -> None:
    tally: Counter[str] = Counter()

    def check(data: st.DataObject) -> None:
        draw = Draw(data)
        draw_beams(draw)
        tally.update(draw_processors(draw, beams=True))
        draw.both(**outputs(draw))
        found, wanted = draw.run(), draw.run_theirs()
        look(draw, ids_of(found), tally)
        tally["several texts"] += draw.shared["num_return_sequences"] > 1
        if not beams_agree(draw, found, wanted, tally):
            return
        compare_beams(found, wanted, draw, tally)
        words_add_up(found, draw)

    drawn(check, 400)
    worth(tally, "beam", 400, several_texts=0.3, several_texts_an_image=0.1)


def test_beam_search_with_a_callers_criterion() -> None:
    tally: Counter[str] = Counter()

    def check(data: st.DataObject) -> None:
        draw = Draw(data)
        draw_beams(draw)
        draw.own["stopping_criteria"] = [stops_at_multiples]
        draw.other["stopping_criteria"] = transformers.StoppingCriteriaList([stops_at_multiples])
        draw.both(**outputs(draw))
        found, wanted = draw.run(), draw.run_theirs()
        if draw.eos is None:  # the oracle fills with -1, whatever the padding token
            wanted.sequences[wanted.sequences == -1] = draw.pad
        look(draw, ids_of(found), tally)
        if not beams_agree(draw, found, wanted, tally):
            return
        compare_beams(found, wanted, draw, tally)

    drawn(check, 80)
    worth(tally, "beam, own criterion", 80)


def test_group_beam_search() -> None:
    tally: Counter[str] = Counter()

    def check(data: st.DataObject) -> None:
        draw = Draw(data)
        draw_beams(draw)
        groups = draw.pick(2, 3)
        size = draw.pick(1, 2, 3)
        draw.both(
            num_beams=groups * size,
            num_beam_groups=groups,
            num_return_sequences=draw.pick(*range(1, groups * size + 1)),
            diversity_penalty=draw.pick(0.2, 0.7, 2.0, 9.0),
        )
        if draw.eos is None and draw.shared["pad_token_id"] is None:
            draw.both(pad_token_id=0)
        tally.update(draw_processors(draw, beams=True, most=2))
        draw.both(**outputs(draw))
        found, wanted = draw.run(), draw.run_theirs()
        look(draw, ids_of(found), tally)
        tally["several in a group"] += size > 1
        if not beams_agree(draw, found, wanted, tally):
            return
        # the oracle's beam_indices are those of the first group, whatever the group
        compare_beams(found, wanted, draw, tally, indices=False)
        words_add_up(found, draw)

    drawn(check)
    worth(tally, "group_beam", several_in_a_group=0.3)


def draw_forced(draw: Draw) -> list[Any]:
    """One to three phrases, some of them alternatives, without end tokens."""
    rng = draw.rng
    words = rng.permutation(np.setdiff1d(np.arange(1, WORDS), ENDS)).tolist()

    def phrase(n: int) -> list[int]:
        return [words.pop() for _ in range(n)]

    forced: list[Any] = []
    for _ in range(draw.pick(1, 1, 1, 2, 3)):
        if draw.pick(True, True, False):
            forced.append(phrase(draw.pick(1, 1, 2, 3)))
        else:
            start = phrase(draw.pick(0, 0, 1))
            forced.append([start + phrase(draw.pick(1, 2)), start + phrase(1)])
    return forced


def test_constrained_beam_search() -> None:
    tally: Counter[str] = Counter()

    def check(data: st.DataObject) -> None:
        draw = Draw(data, biases=(2.5, 4.0, 6.0))
        draw_beams(draw)
        draw.both(force_words_ids=draw_forced(draw))
        if draw.eos is None and draw.shared["pad_token_id"] is None:
            draw.both(pad_token_id=0)
        tally.update(draw_processors(draw, beams=True, most=1))
        asked = {**outputs(draw), "output_attentions": False, "output_hidden_states": False}
        draw.both(**asked)
        found = draw.run()
        try:
            wanted = draw.run_theirs()
        except (RuntimeError, TypeError):  # it loses the beams of texts that lack forced words
            wanted = draw.run_theirs(output_scores=False)
            tally["without scores"] += 1
        look(draw, ids_of(found), tally)
        words_add_up(found, draw)
        if not beams_agree(draw, found, wanted, tally):
            return
        tally["fulfilled"] += fulfilled(ids_of(found), draw)
        if wanted.sequences_scores is not None:
            compare_beams(found, wanted, draw, tally, indices=False)
            if wanted.beam_indices is not None:  # else it lost them, as above
                compare_constrained(found, wanted, draw, tally)

    drawn(check)
    worth(tally, "constrained_beam", fulfilled=0.3, an_end=0.1, early=0.003)


def fulfilled(ids: np.ndarray, draw: Draw) -> bool:
    """Whether the first text has all that was forced."""
    text = ids[0].tolist()

    def has(phrase: list[int]) -> bool:
        return any(text[i : i + len(phrase)] == phrase for i in range(len(text)))

    return all(
        has(entry) if isinstance(entry[0], int) else any(map(has, entry))
        for entry in draw.shared["force_words_ids"]
    )


def compare_constrained(found: Any, wanted: Any, draw: Draw, tally: Counter[str]) -> None:
    """Beams, and scores: the oracle's have the beam's own score added, the same for all words."""
    rows = possible_texts(found)
    ours, theirs = to_numpy(found.beam_indices)[rows], wanted.beam_indices.numpy()[rows]
    width = min(ours.shape[1], theirs.shape[1])
    if not same(ours[:, :width], theirs[:, :width]):  # two beams have changed places
        places = to_numpy(found.beam_indices)
        assert is_tie(draw, places, lambda out: out.beam_indices), f"{ours} != {theirs}"
        tally["ties"] += 1
        return
    assert (ours[:, width:] == -1).all()
    assert (theirs[:, width:] == -1).all()
    for r, t in zip(*np.nonzero(ours >= 0), strict=True):
        beam = ours[r, t]
        close(to_numpy(found.logits[t])[beam], wanted.logits[t].numpy()[beam], "logits")
        mine, other = to_numpy(found.scores[t])[beam], wanted.scores[t].numpy()[beam]
        np.testing.assert_array_equal(np.isfinite(mine), np.isfinite(other))
        finite = np.isfinite(other) & (np.abs(other) < 1e8)
        if finite.any():
            apart = other[finite] - mine[finite]
            np.testing.assert_allclose(apart, apart[0], atol=1e-3)


# ---- drawing words: the same numbers on both sides


class Noted(np.random.Generator):
    """A generator that notes the numbers it has given."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self.given: list[np.ndarray] = []

    def random(self, *args: Any, **options: Any) -> Any:
        numbers = super().random(*args, **options)
        self.given.append(np.asarray(numbers))
        return numbers

    def __deepcopy__(self, _: Any) -> Noted:
        return self


def draw_warpers(draw: Draw) -> list[str]:
    """Some of the arguments that sampling heeds; top_k is 50 unless given."""
    values = {
        "temperature": (0.5, 0.9, 1.7),
        "top_k": (1, 3, 10, 0),
        "top_p": (0.3, 0.8, 0.95),
        "min_p": (0.05, 0.3),
        "typical_p": (0.3, 0.8),
        "epsilon_cutoff": (0.02, 0.1),
        "eta_cutoff": (0.02, 0.3),
    }
    names = draw.some(values, 3)
    draw.both(**{name: draw.pick(*values[name]) for name in names})
    return names


def by_given_numbers(steps: list[np.ndarray]) -> Callable[..., Any]:
    """A torch.multinomial that takes the word where the cumulative probability passes u."""
    left = iter(steps)

    def multinomial(probs: Any, num_samples: int, **_: Any) -> Any:
        assert num_samples == 1
        u = next(left)
        up_to = np.cumsum(probs.numpy().astype(np.float64), axis=-1)
        return torch.from_numpy(np.argmax(up_to > u[:, None] * up_to[:, -1:], axis=-1)[:, None])

    return multinomial


def numbers_of_rows(given_numbers: list[np.ndarray], found: Any, draw: Draw) -> list[np.ndarray]:
    """Of each step a number for every row; those that ended were given none."""
    steps = []
    for numbers, logits in zip(given_numbers, found.logits, strict=True):
        rows = running(to_numpy(logits), draw.pad)
        whole = np.full(len(rows), 0.5)
        assert rows.sum() == len(numbers)
        whole[rows] = numbers
        steps.append(whole)
    return steps


def test_sampling_with_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    tally: Counter[str] = Counter()

    def check(data: st.DataObject) -> None:
        copies = data.draw(st.sampled_from([1, 1, 2, 3]))
        draw = Draw(data, copies=copies)
        draw.both(do_sample=True, num_return_sequences=copies)
        tally.update(draw_warpers(draw))
        names = draw_processors(draw, beams=False, most=2)
        if copies > 1:  # the oracle numbers the rows, not the texts
            draw.shared.pop("prefix_allowed_tokens_fn", None)
            draw.shared.pop("encoder_no_repeat_ngram_size", None)
        draw.both(**outputs(draw))
        tally.update(names)
        seed = data.draw(st.integers(0, 2**32 - 1))
        draw.own["seed"] = noted = Noted(seed)
        found = draw.run()
        steps = numbers_of_rows(noted.given, found, draw)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "multinomial", by_given_numbers(steps))
            try:
                wanted = draw.run_theirs()
            except StopIteration:
                wanted = None
        look(draw, ids_of(found), tally)
        tally["copies"] += copies > 1
        if wanted is None or not same(ids_of(found), ids_of(wanted)):
            assert is_tie(draw, ids_of(found), seed=seed), f"{ids_of(found)} != {ids_of(wanted)}"
            tally["ties"] += 1
            return
        compare_steps(found, wanted, draw, tally)

    drawn(check, 400)
    worth(tally, "sample", 400, copies=0.2, ended_before_others=0.2)
    for name in ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff",
                 "eta_cutoff"):  # fmt: skip
        assert tally[name] >= 40, name


def test_beam_sampling_with_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both take the highest after the same Gumbel numbers were added."""
    tally: Counter[str] = Counter()
    plain_softmax = torch.nn.functional.softmax
    own_candidates = beam_module.BeamSearch._candidates

    def check(data: st.DataObject) -> None:
        draw = Draw(data)
        draw_beams(draw)
        draw.both(do_sample=True)
        tally.update(draw_warpers(draw))
        draw_processors(draw, beams=True, most=1)
        draw.both(**outputs(draw))
        seed = data.draw(st.integers(0, 2**32 - 1))
        noted, numbers, order = Noted(seed), {}, []

        def candidates(self: Any, total: Any) -> Any:
            chosen = own_candidates(self, total)
            if id(self) not in numbers:
                numbers[id(self)] = []
                order.append(self)  # kept alive, so that the id stays its own
            numbers[id(self)].append(noted.given[-1])
            return chosen

        def softmax(x: Any, dim: int, dtype: Any = None) -> Any:
            if x.ndim == 2:
                last["scores"] = x
            return plain_softmax(x, dim=dim, dtype=dtype)

        def multinomial(probs: Any, num_samples: int, **_: Any) -> Any:
            scores = last["scores"].numpy().astype(np.float64)
            t, chosen = last["step"], []
            last["step"] += 1
            for row, text in zip(scores, order, strict=True):
                mine = numbers[id(text)]
                u = mine[t] if t < len(mine) else np.full(row.shape, 0.5)
                keys = row - np.log(-np.log(u))
                chosen.append(np.argsort(-keys, kind="stable")[:num_samples])
            return torch.from_numpy(np.stack(chosen))

        last: dict[str, Any] = {"step": 0}
        draw.own["seed"] = noted
        with monkeypatch.context() as patch:
            patch.setattr(beam_module.BeamSearch, "_candidates", candidates)
            found = draw.run()
        with monkeypatch.context() as patch:
            patch.setattr(torch, "multinomial", multinomial)
            patch.setattr(torch.nn.functional, "softmax", softmax)
            wanted = draw.run_theirs()
        look(draw, ids_of(found), tally)
        if not beams_agree(draw, found, wanted, tally, seed=seed):
            return
        compare_beams(found, wanted, draw, tally, seed=seed)

    drawn(check)
    worth(tally, "beam_sample")


# ---- the distribution of what is drawn


@pytest.mark.parametrize(
    "warpers",
    [
        {}, {"temperature": 0.6}, {"temperature": 1.8}, {"top_k": 4}, {"top_p": 0.8},
        {"min_p": 0.1}, {"typical_p": 0.7}, {"epsilon_cutoff": 0.05}, {"eta_cutoff": 0.1},
        {"temperature": 1.5, "top_k": 6, "top_p": 0.9},
    ],
    ids=str,
)  # fmt: skip
def test_words_are_drawn_by_the_oracles_probabilities(warpers: Arguments) -> None:
    """The first word of 4000 texts, and the second of those that began with the commonest."""
    ours, _, theirs = models("absolute", None, 3, 0.0)
    pixels, n = testing.pixels(1, 3), 4000
    options = {"do_sample": True, "max_new_tokens": 2, "eos_token_id": None, **warpers}
    ids = ours.generate(pixels, [[1, 4]], num_return_sequences=n, seed=20221127, **options)
    commonest = int(np.bincount(ids[:, 2]).argmax())
    seconds = ids[ids[:, 2] == commonest, 3]
    assert len(seconds) > 200
    for prompt, words in (([1, 4], ids[:, 2]), ([1, 4, commonest], seconds)):
        one = {**options, "max_new_tokens": 1, "return_dict_in_generate": True}
        with at_work():
            out = theirs.generate(
                pixel_values=torch.from_numpy(pixels), input_ids=torch.tensor([prompt]),
                output_scores=True, **one,
            )  # fmt: skip
        p = torch.softmax(out.scores[0].double(), -1).numpy()[0]
        counts = np.bincount(words, minlength=WORDS)
        assert not counts[p == 0].any(), "a word was drawn that cannot be"
        assert_drawn_by(p, counts)


def assert_drawn_by(p: np.ndarray, counts: np.ndarray) -> None:
    """Pearson's test of counts against probabilities, rare words put together."""
    expected = p * counts.sum()
    common = expected >= 5
    expected = np.append(expected[common], expected[~common].sum())
    counts = np.append(counts[common], counts[~common].sum())
    expected, counts = expected[expected > 0], counts[expected > 0]
    freedom = max(1, len(expected) - 1)
    statistic = float(((counts - expected) ** 2 / expected).sum())
    # the chi-square distribution by Wilson and Hilferty: 3.7 standard deviations are 1 in 10,000
    z = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5
    assert z < 3.7, f"chi-square {statistic:.1f} with {freedom} degrees of freedom"


# ---- contrastive search: the definition, by whole forward passes of the oracle


def contrastive(draw: Draw, row: int, alpha: float, k: int, longest: int) -> np.ndarray:
    """Equation 5 of Su et al., word by word, with nothing kept from one word to the next."""
    pixels = torch.from_numpy(draw.pixels[row % len(draw.pixels)][None])
    ids = torch.from_numpy(draw.ids[row : row + 1])
    processors = transformers.generation.logits_process
    n_image = None
    while ids.shape[1] < longest:
        with at_work():
            out = draw.theirs(
                input_ids=ids, pixel_values=pixels, use_cache=False, output_hidden_states=True
            )
            n_image = out.logits.shape[1] - ids.shape[1]
            scores = out.logits[:, -1]
            penalty = draw.shared.get("repetition_penalty")
            if penalty:
                scores = processors.RepetitionPenaltyLogitsProcessor(penalty)(ids, scores)
            least = draw.shared.get("min_length", 0)
            if draw.ends and ids.shape[1] < least:
                scores = processors.MinLengthLogitsProcessor(least, draw.ends)(ids, scores)
            p, words = torch.topk(torch.softmax(scores[0], -1), k)
            longer = torch.cat([ids.expand(k, -1), words[:, None]], dim=1)
            after = draw.theirs(
                input_ids=longer, pixel_values=pixels, use_cache=False, output_hidden_states=True
            )
        said = out.hidden_states[-1][0, n_image:]
        new = after.hidden_states[-1][:, -1]
        likeness = torch.nn.functional.cosine_similarity(new[:, None], said[None], dim=-1)
        worth = (1 - alpha) * p - alpha * likeness.max(-1).values
        word = words[int(torch.where(p > 0, worth, -torch.inf).argmax())]
        ids = torch.cat([ids, word[None, None]], dim=1)
        if int(word) in draw.ends:
            break
    return ids[0].numpy()


def test_contrastive_search_is_its_definition() -> None:
    tally: Counter[str] = Counter()

    def check(data: st.DataObject) -> None:
        draw = Draw(data)
        alpha, k = draw.pick(0.1, 0.4, 0.6, 0.9, 1.0), draw.pick(2, 3, 5)
        if draw.pick(True, False, False):
            draw.both(repetition_penalty=1.5)
        if draw.pick(True, False, False):
            draw.both(min_length=draw.prompt + min(3, draw.new))
        found = ids_of(draw.run(penalty_alpha=alpha, top_k=k))
        greedy = ids_of(draw.run())
        longest = draw.prompt + draw.new
        rows = [contrastive(draw, row, alpha, k, longest) for row in range(len(draw.ids))]
        width = max(map(len, rows))
        wanted = np.stack(
            [np.pad(row, (0, width - len(row)), constant_values=draw.pad) for row in rows]
        )
        look(draw, found, tally)
        tally["not greedy"] += not same(found, greedy)
        if not same(found, wanted):
            assert is_tie(draw, found, penalty_alpha=alpha, top_k=k), f"{found} != {wanted}"
            tally["ties"] += 1

    drawn(check, 300)
    worth(tally, "contrastive", 300, not_greedy=0.3)


# ---- padded prompts: each text becomes what it becomes alone


@pytest.mark.parametrize("beams", [False, True])
def test_below_padded_prompts_each_text_is_the_oracles_own_run(beams: bool) -> None:
    tally: Counter[str] = Counter()

    def check(data: st.DataObject) -> None:
        draw = Draw(data)
        draw.shared.pop("max_length", None)
        draw.both(max_new_tokens=draw.new)
        if beams:
            draw_beams(draw)
        draw_processors(draw, beams=True, most=1)
        draw.shared.pop("prefix_allowed_tokens_fn", None)  # it is told the number of the text
        side, width = draw.pick("left", "right", "middle"), draw.prompt + draw.pick(1, 2, 3)
        ids = draw.rng.integers(0, WORDS, (len(draw.ids), width))
        mask = np.zeros_like(ids)
        lengths = draw.rng.integers(1, draw.prompt + 1, len(ids))
        for row, kept, length in zip(ids, mask, lengths, strict=True):
            first = {"left": width - length, "right": 0, "middle": (width - length) // 2}[side]
            kept[first : first + length] = 1
            row[first : first + length] = draw.rng.choice([1, 3, 4, 6, 7, 8], length)
        tally["ragged"] += len(set(lengths.tolist())) > 1
        pixels = draw.pixels
        draw.ids, draw.own["attention_mask"] = ids, mask
        if beams:
            draw.both(return_dict_in_generate=True, output_scores=True)
        out = draw.run()
        found, possible = ids_of(out), possible_texts(out)
        copies = draw.shared.get("num_return_sequences", 1)
        look(draw, found, tally)
        np.testing.assert_array_equal(found[:, :width], np.repeat(ids, copies, axis=0))
        for b, length in enumerate(lengths):
            draw.pixels, draw.ids = pixels[b % len(pixels)][None], ids[b : b + 1, mask[b] == 1]
            draw.other["attention_mask"] = torch.ones(1, int(length), dtype=torch.int64)
            own = slice(b * copies, (b + 1) * copies)
            rows = possible[own]
            mine, wanted = found[own, width:][rows], ids_of(draw.run_theirs())[rows, length:]
            mine, wanted = of_one_width(mine, wanted, filler(draw, beams))
            if not same(mine, wanted):
                draw.own["attention_mask"] = np.ones_like(draw.ids)
                assert is_tie(draw, ids_of(draw.run())), f"{mine} != {wanted}"
                tally["ties"] += 1
                return

    drawn(check, 130)
    worth(tally, f"padded, beams={beams}", 130, ragged=0.3, five_words_or_more=0.2, an_end=0.2)


def filler(draw: Draw, beams: bool) -> int:
    """The oracle's beam search takes a padding token of id 0 for none."""
    return draw.ends[0] if beams and not draw.shared["pad_token_id"] and draw.ends else draw.pad


# ---- stop strings

VOCABULARY = [
    "[PAD]", "[CLS]", "[SEP]", "a", "b", "##a", "##b", "ab", "##ab", "##ba", "aba", ".", "##.",
    "!", "'", "s", "[UNK]", "abcdef", "##c", "do", "c", "##d", "[MASK]",
]  # fmt: skip


def test_stop_strings_end_a_text_where_they_do_in_the_oracle(tmp_path: Any) -> None:
    assert len(VOCABULARY) == WORDS
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    mine = BertTokenizer.from_vocab(VOCABULARY)
    other = transformers.BertTokenizerFast(tmp_path / "vocab.txt")
    tally: Counter[str] = Counter()

    def check(data: st.DataObject) -> None:
        draw = Draw(data)
        if draw.eos is None:
            draw.eos = 2
            draw.both(eos_token_id=2)
        if draw.pick(True, False):
            draw_beams(draw)
        strings = [draw.pick("a", "b", "ab", "c", ".", "ba", " a"), draw.pick("!", "abc", "s", "d")]
        draw.both(stop_strings=strings)
        found = ids_of(draw.run(tokenizer=mine))
        wanted = ids_of(draw.run_theirs(tokenizer=other))
        free = ids_of(draw.run(stop_strings=None))
        look(draw, found, tally)
        tally["stopped"] += not same(found, free)
        if not same(found, wanted):
            assert is_tie(draw, found, tokenizer=mine), f"{found} != {wanted}"
            tally["ties"] += 1

    drawn(check, 60)
    worth(tally, "stop strings", 60, stopped=0.2, five_words_or_more=0.1)
