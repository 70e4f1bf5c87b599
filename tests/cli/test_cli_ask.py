"""`refgit ask`, and videos on the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import VOCABULARY, letters_model, picture
from refgit import BertTokenizer, GitForCausalLM, GitProcessor, VideoMAEImageProcessor, testing
from refgit.cli import main as cli
from refgit.demo import demo_path
from refgit.model import git as model_module
from refgit.processing import CLIPImageProcessor, load_image, read_video

STAR = str(Path(__file__).parents[2] / "docs" / "images" / "star.png")
QUESTION = "what kind of thing is this?"

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: exit code, lines of stdout, lines of stderr."""

    def run_it(*arguments: object) -> tuple[int, list[str], list[str]]:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:  # of argparse
            code = int(str(end.code))
        out, err = capsys.readouterr()
        err = "\n".join(line for line in err.split("\n") if "using the bundled model" not in line)
        return code, out.split("\n")[:-1], err.split("\n")[:-1]

    return run_it


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    return letters_model(folder, None, CLIPImageProcessor(size=8, crop_size=8))


@pytest.fixture(scope="module")
def video_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    return letters_model(folder, 3, VideoMAEImageProcessor(size=8, crop_size=8))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of twelve frames that grow brighter."""
    av = pytest.importorskip("av", reason="decoding needs PyAV: pip install av")
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"
        for i in range(12):
            grey = np.full((32, 48, 3), 20 * i, np.uint8)
            grey[: 2 * i] = 200 - 10 * i
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    return path


# ---- asking


def test_one_question_prints_its_answer_and_nothing_else(run: Run) -> None:
    assert run("ask", STAR, QUESTION) == (0, ["travel and places"], [])


def test_several_questions_print_a_line_each_and_read_the_image_once(
    run: Run, image_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = model_module.image_encoder

    def counted(*arguments: object, **options: object) -> object:
        seen.append(1)
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(model_module, "image_encoder", counted)
    file = picture(tmp_path / "a.png")
    questions = ["a b", "c", "d e f"]
    code, out, err = run("ask", file, *questions, "--model", image_model)
    assert (code, err, len(seen)) == (0, [], 1)
    alone = [run("ask", file, question, "--model", image_model)[1][0] for question in questions]
    assert out == [f"{q}\t{a}" for q, a in zip(questions, alone, strict=True)]
    assert len(set(alone)) == 3


def test_the_answer_is_what_the_model_writes_after_the_question(
    run: Run, image_model: Path, tmp_path: Path
) -> None:
    file = picture(tmp_path / "a.png")
    model = GitForCausalLM.from_pretrained(image_model)
    processor = GitProcessor.from_pretrained(image_model)
    prompt = [1, *processor(text="a b", add_special_tokens=False).input_ids]
    pixels = processor(load_image(file), return_tensors="np").pixel_values
    ids = model.generate(pixels, [prompt], max_new_tokens=5)
    expected = processor.batch_decode(ids[:, 3:], skip_special_tokens=True)
    options = ["--model", image_model, "--max-new-tokens", 5]
    assert run("ask", file, "a b", *options) == (0, expected, [])


@pytest.mark.parametrize(
    "settings", [{"num_beams": 3}, {"do_sample": True, "num_return_sequences": 3}]
)
def test_the_checkpoints_way_of_writing_is_kept_to(
    settings: dict[str, object], run: Run, image_model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(image_model, other)
    path = other / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    file = picture(tmp_path / "a.png")
    for command in (["caption", file], ["ask", file, "a b"]):
        code, out, err = run(*command, "--model", other)
        assert (code, len(out), err) == (0, 1, [])
    if "num_beams" in settings:
        model, processor = (
            GitForCausalLM.from_pretrained(other),
            GitProcessor.from_pretrained(other),
        )
        pixels = processor(load_image(file), return_tensors="np").pixel_values
        ids = model.generate(pixels, max_length=testing.CONFIG.max_position_embeddings)
        expected = processor.batch_decode(ids, skip_special_tokens=True)
        assert run("caption", file, "--model", other)[1] == expected


def test_json_holds_image_question_and_answer(run: Run) -> None:
    code, (line,), err = run("ask", STAR, QUESTION, "--json")
    assert (code, err) == (0, [])
    row = {"index": 0, "image": STAR, "question": QUESTION, "answer": "travel and places"}
    assert json.loads(line) == {**row, "error": None}


@pytest.mark.parametrize(
    ("bad", "words"), [("", "no words"), ("  ", "no words"), ("a " * 30, "31 tokens")]
)
def test_a_question_that_cannot_be_asked_is_named_and_the_others_are_answered(
    bad: str, words: str, run: Run, image_model: Path, tmp_path: Path
) -> None:
    file = picture(tmp_path / "a.png")
    code, out, (line,) = run("ask", file, bad, "c", "--model", image_model)
    assert code == 1
    assert [text.split("\t")[0] for text in out] == ["c"]
    assert words in line
    code, out, _ = run("ask", file, bad, "c", "--model", image_model, "--json")
    first, second = map(json.loads, out)
    assert (code, first["question"], second["question"]) == (1, bad, "c")
    assert words in first["error"]


def test_a_question_may_fill_all_positions_but_one(
    run: Run, image_model: Path, tmp_path: Path
) -> None:
    question = " ".join("a" * (testing.CONFIG.max_position_embeddings - 2))
    file = picture(tmp_path / "a.png")
    code, (line,), err = run("ask", file, question, "--model", image_model)
    assert (code, err) == (0, [])
    assert len(line.split()) <= 1


def test_an_image_that_fails_is_one_line_and_the_others_are_asked_about(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no image")
    for name in ("missing.png", "text.png"):
        code, out, (line,) = run("ask", tmp_path / name, QUESTION, "and?")
        assert (code, out) == (1, [])
        assert name in line
        code, out, (line,) = run("ask", tmp_path / name, STAR, QUESTION)
        assert (code, out) == (1, [f"{STAR}\ttravel and places"])
        code, out, (line,) = run("ask", tmp_path / name, STAR, QUESTION, "--json")
        failed, row = map(json.loads, out)
        assert failed["answer"] is None
        assert name in failed["error"]
        assert list(failed) == list(row) == ["index", "image", "question", "answer", "error"]


# ---- many images, and questions from files

BALLOON = STAR.replace("star", "balloon")


def test_each_question_is_asked_of_each_image(run: Run, tmp_path: Path) -> None:
    alone = [run("ask", file, QUESTION)[1][0] for file in (STAR, BALLOON)]
    assert alone == ["travel and places", "activities"]
    lines = [f"{file}\t{text}" for file, text in zip((STAR, BALLOON), alone, strict=True)]
    assert run("ask", STAR, BALLOON, QUESTION) == (0, lines, [])
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(Path(STAR).read_bytes())
    code, out, _ = run("ask", folder, BALLOON, QUESTION, "and?")
    assert code == 0
    names = [str(folder / "a.png")] * 2 + [BALLOON] * 2
    assert [line.split("\t")[:2] for line in out] == [
        [name, question] for name, question in zip(names, [QUESTION, "and?"] * 2, strict=True)
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_questions_come_from_a_file_of_lines(
    encoding: str, end: str, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "questions.txt"
    file.write_bytes(f"{QUESTION}{end}{end}{QUESTION} ünd?{end}".encode(encoding))
    code, out, _ = run("ask", STAR, "--questions", file)
    assert code == 0
    assert [line.split("\t")[0] for line in out] == [QUESTION, f"{QUESTION} ünd?"]
    assert run("ask", STAR, QUESTION, "--questions", file)[1][1:] == out


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_names_an_image_for_each_question(encoding: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    text = f'question,more,image\r\n"{QUESTION}",x,{STAR}\r\n"a, b?",y,{STAR}\r\n'
    file.write_bytes(f"{text}{QUESTION},z,{BALLOON}\r\n".encode(encoding))
    code, out, _ = run("ask", "--questions", file, "--json")
    assert code == 0
    rows = [json.loads(line) for line in out]
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert [(row["image"], row["question"]) for row in rows] == [
        (STAR, QUESTION), (STAR, "a, b?"), (BALLOON, QUESTION)
    ]  # fmt: skip
    assert (rows[0]["answer"], rows[2]["answer"]) == ("travel and places", "activities")
    file.write_text(f"question\n{QUESTION}\n")
    assert run("ask", STAR, "--questions", file)[1] == ["travel and places"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is no image; expected one before the questions"),
        ([STAR], "there is no question; expected one after"),
        ([QUESTION], "stands where an image is expected"),
        ([QUESTION, STAR], "stands where an image is expected"),
        ([STAR, QUESTION, BALLOON], "is an image in the place of a question"),
        ([STAR, QUESTION, "missing.jpg"], "'missing.jpg' is an image in the place of a question"),
        (["-", "-", QUESTION], "occurs 2 times among the images"),
    ],
)
def test_what_stands_in_the_wrong_place_is_named(words: list[str], message: str, run: Run) -> None:
    code, out, (line,) = run("ask", *words)
    assert (code, out) == (2, [])
    assert message in line


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.txt", "\n \n", "has no questions; expected one on each line"),
        ("q.txt", f"why?\n{STAR}\n", "q.txt:2: "),
        ("q.csv", "picture,text\na,b\n", "has the columns picture, text; expected its first line"),
        ("q.csv", "", "has the columns (none)"),
        ("q.csv", "image,question\n", "has no questions below its first line"),
        ("q.csv", f"image,question\n{STAR},\n", "q.csv:2: there is no question"),
        ("q.csv", "image,question\n,why?\n", "q.csv:2: there is no image"),
        ("q.csv", f"image,question\n{STAR},{STAR}\n", "is an image in the place of a question"),
    ],
)
def test_a_file_of_questions_that_is_wrong_is_named_with_its_line(
    name: str, text: str, message: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    images = [] if name.endswith(".csv") else [STAR]
    code, out, (line,) = run("ask", *images, "--questions", tmp_path / name)
    assert (code, out) == (2, [])
    assert message in line


def test_a_table_with_images_takes_no_others(run: Run, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(f"image,question\n{STAR},why?\n")
    code, out, (line,) = run("ask", BALLOON, "--questions", tmp_path / "q.csv")
    assert (code, out) == (2, [])
    assert "names an image for each question; expected no others" in line
    code, out, (line,) = run("ask", BALLOON, "--questions", tmp_path / "none.csv")
    assert (code, out) == (2, [])
    assert "none.csv cannot be read" in line
    (tmp_path / "q.txt").write_bytes(b"\xff?\n")
    code, out, (line,) = run("ask", BALLOON, "--questions", tmp_path / "q.txt")
    assert "is not a text in UTF-8 (byte 0 is 0xff)" in line


def test_a_model_that_never_learned_questions_is_said_to_answer_nothing(
    run: Run, image_model: Path, tmp_path: Path
) -> None:
    """Its first token is the end token, as with a model that has learned only captions."""
    other = shutil.copytree(image_model, tmp_path / "other")
    path = other / "generation_config.json"
    config = json.loads(path.read_text())
    everything = [i for i in range(testing.CONFIG.vocab_size) if i != config["eos_token_id"]]
    path.write_text(json.dumps({**config, "suppress_tokens": everything}))
    file = picture(tmp_path / "a.png")
    code, out, (line,) = run("ask", file, "a b", "--model", other)
    assert (code, out) == (0, [""])
    assert "the answer is empty: the model ended at once" in line
    assert "never learned to answer questions" in line
    line = run("ask", file, "a b", "c", "--model", other)[2][0]
    assert "2 of 2 answers are empty" in line
    assert run("ask", file, "a b", "--model", image_model)[2] == []


# ---- videos


def test_a_video_is_captioned_from_frames_spread_over_it(
    run: Run, video_model: Path, clip: Path
) -> None:
    model = GitForCausalLM.from_pretrained(video_model)
    processor = GitProcessor.from_pretrained(video_model)
    pixels = processor(images=read_video(clip, 3), return_tensors="np").pixel_values
    assert pixels.shape == (1, 3, 3, 8, 8)
    ids = model.generate(pixels, max_length=10)
    expected = processor.batch_decode(ids, skip_special_tokens=True)
    assert len(expected[0].split()) > 2
    options = ["--model", video_model, "--max-length", 10]
    assert run("caption", clip, *options) == (0, expected, [])
    one_frame = processor(images=read_video(clip, 1), return_tensors="np").pixel_values
    assert not np.array_equal(model.generate(one_frame, max_length=10), ids)  # frames matter


def test_a_video_model_with_an_image_processor_takes_frames_as_one_video(
    run: Run, video_model: Path, clip: Path, tmp_path: Path
) -> None:
    model = GitForCausalLM.from_pretrained(video_model)
    image_processor = CLIPImageProcessor(size=8, crop_size=8)
    other = letters_model(tmp_path / "clip_type", 3, image_processor)
    pixels = image_processor(read_video(clip, 3)).pixel_values[None]
    ids = model.generate(pixels, max_length=10)
    expected = BertTokenizer.from_vocab(VOCABULARY).batch_decode(ids, skip_special_tokens=True)
    options = ["--model", other, "--max-length", 10]
    assert run("caption", clip, *options) == (0, expected, [])


def test_a_directory_of_a_video_model_includes_its_videos(
    run: Run, video_model: Path, image_model: Path, clip: Path, tmp_path: Path
) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "b.mkv").write_bytes(clip.read_bytes())
    files = [line.split("\t")[0] for line in run("caption", tmp_path, "--model", video_model)[1]]
    assert files == [str(tmp_path / "a.png"), str(tmp_path / "b.mkv")]
    files = [line.split("\t")[0] for line in run("caption", tmp_path, "--model", image_model)[1]]
    assert files == [str(tmp_path / "a.png")]


def test_questions_are_answered_about_a_video(run: Run, video_model: Path, clip: Path) -> None:
    code, (line,), err = run("ask", clip, "a b", "--model", video_model)
    assert (code, err) == (0, [])
    assert line


def test_a_model_of_images_says_so_of_a_video(run: Run, image_model: Path, clip: Path) -> None:
    code, out, (line,) = run("caption", clip, "--model", image_model)
    assert (code, out) == (1, [])
    assert f"{clip} is a video" in line
    assert "takes images only" in line


def test_a_file_that_is_no_video_is_named(run: Run, video_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="decoding needs PyAV: pip install av")
    (tmp_path / "text.mp4").write_text("no video" * 20)
    code, out, (line,) = run("caption", tmp_path / "text.mp4", "--model", video_model)
    assert (code, out) == (1, [])
    assert "text.mp4 cannot be decoded" in line


def test_the_bundled_model_is_the_default(run: Run) -> None:
    assert run("ask", STAR, QUESTION, "--model", demo_path())[1] == run("ask", STAR, QUESTION)[1]
