"""The options that say how texts are searched for, in every command that writes texts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.command_line import model, picture
from refgit import GitForCausalLM, GitProcessor
from refgit.cli import main as cli
from refgit.cli.decoding import OPTIONS, in_options
from refgit.generation.results import transition_scores
from refgit.pipeline import Captioner, WrittenText
from refgit.pipeline.decoding import derived_seed
from refgit.pipeline.texts import row_fields
from refgit.processing import load_image

__all__ = ["model"]  # a fixture
Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(model: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with the tiny model: exit code, lines of stdout, lines of stderr."""

    def run_it(command: str, *arguments: object, folder: Path = model) -> Any:
        try:
            code = cli.main([command, *map(str, arguments), "--model", str(folder)])
        except SystemExit as end:  # of argparse
            code = int(str(end.code))
        out, err = capsys.readouterr()
        return code, out.split("\n")[:-1], err.split("\n")[:-1]

    return run_it


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [picture(tmp_path / "pictures" / f"{i}.png", i) for i in range(4)]


def generated(folder: Path, file: Path, prompt: str | None = None, **options: Any) -> list[str]:
    """What `generate` itself writes."""
    model, processor = GitForCausalLM.from_pretrained(folder), GitProcessor.from_pretrained(folder)
    ids = [[1] if prompt is None else [1, *processor.tokenizer(prompt).input_ids[1:-1]]]
    pixels = processor(images=load_image(file), return_tensors="np").pixel_values
    room = {"max_length": 16} if "max_new_tokens" not in options else {}
    found = model.generate(pixels, ids, **(room | options))
    return [text.strip() for text in processor.batch_decode(found, skip_special_tokens=True)]


def with_settings(model: Path, tmp_path: Path, **settings: Any) -> Path:
    folder = shutil.copytree(model, tmp_path / "other")
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


# ---- options become those of generate


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (["--num-beams", 3], {"num_beams": 3}),
        (["--num-captions", 3], {"num_beams": 3, "num_return_sequences": 3}),
        (["--num-captions", 2, "--num-beams", 4], {"num_beams": 4, "num_return_sequences": 2}),
        (["--min-length", 9], {"min_length": 9}),
        (["--max-new-tokens", 2], {"max_new_tokens": 2}),
        (["--repetition-penalty", 2.5], {"repetition_penalty": 2.5}),
        (["--no-repeat-ngram", 1], {"no_repeat_ngram_size": 1}),
        (["--preset", "paper"], {"preset": "paper"}),
    ],
)
def test_caption_and_its_jobs_write_what_generate_does(
    given: list[object], options: dict[str, Any], run: Run, files: list[Path], model: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    expected = generated(model, files[0], max_length=16, **options) if (
        "max_new_tokens" not in options
    ) else generated(model, files[0], **options)  # fmt: skip
    lengths = [] if "max_new_tokens" in options else ["--max-length", 16]
    assert run("caption", files[0], *given, *lengths) == (0, expected, [])
    out = tmp_path / "rows.jsonl"
    assert run("caption", files[0], *given, *lengths, "--out", out, "-q") == (0, [], [])
    row = json.loads(out.read_text())
    assert row["caption"] == expected[0]
    assert row.get("captions", expected[:1]) == expected
    printed = run("caption", files[0], *given, *lengths, "--json")[1]
    assert [json.loads(line) for line in printed] == [row]


def test_a_caption_begins_with_its_prompt_on_the_way_and_at_the_end(
    run: Run, files: list[Path], model: Path
) -> None:
    expected = generated(model, files[0], "a b")
    assert expected[0].startswith("a b ")
    assert run("caption", files[0], "--prompt", "a b", "--max-length", 16)[1] == expected
    captioner = Captioner.from_pretrained(model, prompt="a b", max_length=16)
    assert captioner.caption(files[0]) == expected[0]
    assert all(text.startswith("a b") for text in captioner.stream(files[0]))
    code, out, (line,) = run("caption", files[0], "--prompt", "a " * 30)
    assert (code, out) == (2, [])
    assert "--prompt is 31 tokens" in line
    code, out, (line,) = run("caption", files[0], "--prompt", " ")
    assert (code, out) == (2, [])
    assert line == "refgit: --prompt has no words; expected some, in quotes."


# ---- lengths


def tokens(text: str) -> int:
    return len(text.split())


def test_lengths_of_the_checkpoint_are_not_overridden_by_a_default(
    run: Run, files: list[Path], model: Path, tmp_path: Path
) -> None:
    free = tokens(run("caption", files[0])[1][0])
    assert free > 6
    own = with_settings(model, tmp_path, max_length=5)
    assert tokens(run("caption", files[0], folder=own)[1][0]) == 4  # and the opening token
    assert tokens(run("caption", files[0], "--max-length", 7, folder=own)[1][0]) == 6
    assert tokens(run("caption", files[0], "--max-new-tokens", 2, folder=own)[1][0]) == 2
    shutil.rmtree(own)
    own = with_settings(model, tmp_path, max_new_tokens=3)
    assert tokens(run("caption", files[0], folder=own)[1][0]) == 3
    assert tokens(run("caption", files[0], "--max-length", 7, folder=own)[1][0]) == 6
    assert tokens(run("ask", files[0], "a b", folder=own)[1][0]) <= 3
    assert Captioner.from_pretrained(own).max_length == 4


def test_two_answers_to_how_long_are_an_error(run: Run, files: list[Path], model: Path) -> None:
    code, out, (line,) = run("caption", files[0], "--max-length", 9, "--max-new-tokens", 3)
    assert (code, out) == (2, [])
    assert "--max-new-tokens: not allowed with argument --max-length" in line
    with pytest.raises(ValueError, match="expected one of the two"):
        Captioner.from_pretrained(model, max_length=9, decoding={"max_new_tokens": 3})


# ---- sampling

HOT = ["--temperature", 3, "--top-k", 20, "--max-length", 9]


def test_what_is_drawn_follows_from_the_seed_and_the_picture(
    run: Run, files: list[Path], tmp_path: Path
) -> None:
    lines = [run("caption", *order, *HOT, "--seed", 1)[1] for order in (files, files[::-1])]
    assert lines[0] == lines[1][::-1]
    assert lines[0] != run("caption", *files, *HOT, "--seed", 2)[1]
    drawn = dict(line.split("\t") for line in lines[0])
    assert len(set(drawn.values())) > 1
    for size in (1, 3):
        out = tmp_path / f"{size}.jsonl"
        options = [*HOT, "--seed", 1, "--batch-size", size, "--out", out]
        assert run("caption", files[0].parent, *options)[0] == 0
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert {row["image"]: row["caption"] for row in rows} == drawn


def test_a_job_draws_alike_without_a_seed(run: Run, files: list[Path], tmp_path: Path) -> None:
    for name in "ab":
        assert run("caption", *files, *HOT, "--out", tmp_path / f"{name}.jsonl")[0] == 0
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()


def test_several_captions_of_a_picture_are_drawn_apart(run: Run, files: list[Path]) -> None:
    found = [run("caption", files[0], *HOT, "--seed", 5, "--num-captions", 6)[1] for _ in "ab"]
    assert found[0] == found[1]
    assert len(found[0]) == 6
    assert len(set(found[0])) > 1


def test_seeds_differ_where_anything_differs() -> None:
    seeds = [
        derived_seed(*parts)
        for parts in ((0,), (1,), (0, b""), (0, b"a"), (0, b"a", b""), (0, b"", b"a"), (0, b"aa"))
    ]
    assert len(set(seeds)) == len(seeds)
    assert derived_seed(3, b"pixels") == derived_seed(3, b"pixels")


# ---- scores


@pytest.mark.parametrize("beams", [1, 3])
def test_scores_are_the_log_probabilities_of_what_was_written(
    beams: int, run: Run, files: list[Path], model: Path
) -> None:
    git, processor = GitForCausalLM.from_pretrained(model), GitProcessor.from_pretrained(model)
    options = {"num_beams": beams, "num_return_sequences": beams, "repetition_penalty": 1.5}
    given = ["--num-beams", beams, "--num-captions", beams, "--repetition-penalty", 1.5]
    lines = run("caption", *files, "--scores", "--max-length", 12, *given)[1]
    assert len(lines) == beams * len(files)
    for i, file in enumerate(files):
        pixels = processor(images=load_image(file), return_tensors="np").pixel_values
        found = git.generate(
            pixels, max_length=12, output_scores=True, return_dict_in_generate=True, **options
        )
        steps = transition_scores(
            found.sequences,
            found.scores,
            getattr(found, "beam_indices", None),
            normalize_logits=True,
        )
        for row, line in zip(steps, lines[i * beams : (i + 1) * beams], strict=True):
            name, _, mean, total = line.split("\t")
            assert name == str(file)
            n = round(float(total) / float(mean))
            assert float(total) == pytest.approx(row[:n].sum(), abs=1e-3)
            assert np.all(row[n:] == 0)  # the end token is the last that counts


def test_rows_have_scores_of_the_first_and_of_all() -> None:
    texts = [WrittenText("a b", (7, 8, 2), -1.5), WrittenText("c", (9, 2), -np.inf)]
    assert row_fields(texts) == {
        "captions": ["a b", "c"],
        "score": -0.5,
        "score_sum": -1.5,
        "scores": [-0.5, None],
        "score_sums": [-1.5, None],
    }
    assert row_fields(texts[:1]) == {"score": -0.5, "score_sum": -1.5}
    assert row_fields([WrittenText("a", (7,))]) == {}


def test_scores_are_found_in_parts_where_they_would_fill_the_memory(
    files: list[Path], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = Captioner.from_pretrained(model, scores=True, prompt="a")
    pixels = [captioner.read(file) for file in files]
    whole = captioner.write_texts(pixels)
    monkeypatch.setattr("refgit.pipeline.writer.SCORES_AT_ONCE", 1)
    for one, other in zip(whole, captioner.write_texts(pixels), strict=True):
        assert not isinstance(one, Exception)
        assert not isinstance(other, Exception)
        assert one[0].token_ids == other[0].token_ids
        assert one[0].log_probability == pytest.approx(other[0].log_probability, abs=1e-4)


# ---- what does not go together


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            ["--seed", 1],
            "--seed is 1, which has no effect without sampling (--temperature, --top-p",
        ),
        (["--num-captions", 3, "--num-beams", 2], "--num-captions is 3 and --num-beams 2"),
        (["--min-length", 9, "--max-length", 5], "--min-length is 9 and --max-length is 5"),
        (["--preset", "paper", "--top-p", 0.5], "--preset paper searches with beams, and --top-p"),
    ],
)
def test_what_does_not_go_together_is_said_in_the_options_words(
    given: list[object], words: str, run: Run, files: list[Path]
) -> None:
    code, out, (line,) = run("caption", files[0], *given)
    assert (code, out) == (2, [])
    assert words in line
    assert "_" not in line.replace(str(files[0]), "")


def test_names_of_arguments_become_those_of_options() -> None:
    text = "num_return_sequences is 3, max_new_tokens 2; a-seed, my_max_length and seed stay."
    assert in_options(text) == (
        "--num-captions is 3, --max-new-tokens 2; a-seed, my_max_length and seed stay."
    )
    assert in_options("seed is 3.") == "--seed is 3."


# ---- the other commands


def test_classify_refuses_by_name_what_means_nothing_to_it(
    run: Run, files: list[Path], tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb c\n")
    values = {"scores": [], "preset": ["paper"], "prompt": ["a"]}
    for name in OPTIONS:
        option = "--" + name.replace("_", "-")
        given = [option, *values.get(name, [2 if name != "top_p" else 0.5])]
        code, out, err = run("classify", files[0], "--labels", labels, *given)
        if name in ("prompt", "scores"):
            assert (code, err) == (0, [])
        else:
            assert (code, out) == (2, [])
            assert err == [
                f"refgit: {option} means nothing here: labels are ranked by their probability, "
                "and no text is searched for."
            ]


def test_classify_prints_scores_behind_the_labels(
    run: Run, files: list[Path], tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb c\n")
    for line in run("classify", files[0], "--labels", labels, "--scores")[1]:
        probability, label, mean, total = line.split("\t")
        assert float(probability) == pytest.approx(np.exp(float(total)), rel=1e-3)
        assert float(mean) == pytest.approx(float(total) / (len(label.split()) + 1), abs=1e-4)


def test_explain_explains_the_caption_that_caption_writes(
    run: Run, files: list[Path], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    for given in (
        ["--num-beams", 3, "--max-length", 8],
        ["--prompt", "a b", "--max-new-tokens", 3],
        [*HOT, "--seed", 4],
    ):
        expected = run("caption", files[0], *given)[1]
        assert run("explain", files[0], *given, "--out", page, "-q") == (0, expected, [])
    (line,) = run("explain", files[0], "--text", "a b", "--scores", "--out", page)[1]
    text, mean, total = line.split("\t")
    assert text == "a b"
    assert float(mean) == pytest.approx(float(total) / 3, abs=1e-4)
    for given in (["--num-captions", 2], ["--text", "a", "--num-beams", 2]):
        code, out, (line,) = run("explain", files[0], *given, "--out", page)
        assert (code, out) == (2, [])
        assert f"{given[-2]} means nothing here" in line


def test_answers_are_searched_for_likewise(run: Run, files: list[Path], model: Path) -> None:
    expected = generated(model, files[0], "a b", num_beams=2, max_new_tokens=4)
    given = ["--num-beams", 2, "--max-new-tokens", 4]
    assert run("ask", files[0], "a b", *given)[1] == [expected[0].removeprefix("a b").strip()]
    hot = ["--temperature", 3, "--max-new-tokens", 5, "--seed", 1]
    both = run("ask", files[0], files[1], "a b", "c", *hot)[1]
    assert both == run("ask", files[0], files[1], "a b", "c", *hot)[1]
    alone = run("ask", files[1], "c", *hot)[1]
    assert both[3] == f"{files[1]}\tc\t{alone[0]}"
    code, (line,), _ = run("ask", files[0], "a b", "--num-captions", 2, "--scores", "--json")
    row = json.loads(line)
    assert code == 0
    assert row["answers"][0] == row["answer"]
    assert row["scores"][0] == row["score"]
    code, out, (line,) = run("ask", files[0], "a b", "--prompt", "c")
    assert (code, out) == (2, [])
    assert "--prompt means nothing here: the text begins with the question" in line
