"""Where a checkpoint's parts are found: run directories, processors apart, two programs' files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from refgit import Captioner, CheckpointError, CLIPImageProcessor, GitForCausalLM, GitProcessor
from refgit.cli.main import main
from refgit.errors import CheckpointWarning
from refgit.parts import find_parts
from tests.helpers.command_line import model, picture  # noqa: F401

PROCESSOR = (
    "preprocessor_config.json", "special_tokens_map.json", "tokenizer.json",
    "tokenizer_config.json", "vocab.txt",
)  # fmt: skip


def step(run: Path, number: int, model: Path, *, without: tuple[str, ...] = PROCESSOR) -> Path:
    """A checkpoint-N of Trainer."""
    folder = run / f"checkpoint-{number}"
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns(*without))
    (folder / "trainer_state.json").write_text("{}")
    return folder


def test_a_run_directory_stands_for_its_latest_checkpoint(model: Path, tmp_path: Path) -> None:
    for number in (9, 100, 20):
        step(tmp_path, number, model)
    broken = tmp_path / "checkpoint-300"
    broken.mkdir()
    with pytest.warns(CheckpointWarning, match="checkpoint-100, is taken; checkpoint-300 has no"):
        assert find_parts(tmp_path).model == tmp_path / "checkpoint-100"
    with pytest.warns(CheckpointWarning):
        GitForCausalLM.from_pretrained(tmp_path)


def test_a_run_directory_with_a_model_of_its_own_is_that(model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(model, run)
    step(run, 3, model)
    assert find_parts(run).model == run


def test_a_checkpoint_without_a_processor_says_so_and_takes_one(
    model: Path,
    tmp_path: Path,
) -> None:
    folder = step(tmp_path, 3, model)
    for load in (Captioner.from_pretrained, GitProcessor.from_pretrained):
        with pytest.raises(CheckpointError, match="Trainer leaves a processor out") as caught:
            load(folder)
        assert "--processor DIR|NAME" in str(caught.value)
    found = Captioner.from_pretrained(folder, processor=model)
    image = picture(tmp_path / "a.png")
    assert found.caption(image) == Captioner.from_pretrained(model).caption(image)


def test_a_directory_without_a_model_lacks_more_than_a_processor(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"config\.json does not exist; expected a checkpoint"
    ):
        _ = find_parts(tmp_path).processor


def test_a_file_is_not_looked_up_on_the_hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    name = f"{model.name}/model.safetensors"  # as a repository's might be
    with pytest.raises(CheckpointError, match=r"is not a directory; .* that the file is in"):
        find_parts(name)


def test_a_file_of_microsofts_is_to_be_converted(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.touch()
    with pytest.raises(CheckpointError, match=rf"refgit convert {file} --out DIR"):
        find_parts(file)


def test_half_a_processor_is_told(model: Path, tmp_path: Path) -> None:
    folder = step(tmp_path, 3, model, without=("preprocessor_config.json",))
    with pytest.raises(CheckpointError, match="lacks the processor's settings of its images") as e:
        GitProcessor.from_pretrained(folder)
    assert "vocab.txt" not in str(e.value)


def test_a_run_directory_may_hold_its_checkpoints_processor(model: Path, tmp_path: Path) -> None:
    folder = step(tmp_path, 3, model)
    for name in PROCESSOR:
        if (model / name).exists():
            shutil.copy(model / name, tmp_path)
    assert find_parts(folder).processor == tmp_path
    assert find_parts(model, processor=tmp_path).processor == tmp_path
    GitProcessor.from_pretrained(folder)


def test_commands_take_a_processor_from_elsewhere(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step(tmp_path / "run", 3, model)
    image = picture(tmp_path / "a.png")
    assert main(["caption", str(image), "--model", str(model)]) == 0
    expected = capsys.readouterr().out
    command = ["caption", str(image), "--model", str(tmp_path / "run")]
    assert main(command) == 2
    assert "--processor" in capsys.readouterr().err
    assert main([*command, "--processor", str(model)]) == 0
    out, err = capsys.readouterr()
    assert out == expected
    said = [line for line in err.splitlines() if "is taken" in line]
    assert len(said) == 1
    assert said[0].startswith("refgit: ")


# ---- the files of two programs


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_the_newer_programs_settings_win_and_a_disagreement_is_said(tmp_path: Path) -> None:
    old = {"size": 5, "crop_size": 5, "image_mean": [0.5, 0.5, 0.5]}
    new = {"size": 7, "crop_size": {"height": 5, "width": 5}, "image_mean": [0.5, 0.5, 0.5]}
    combined = {"image_processor": new, "processor_class": "GitProcessor"}
    write(tmp_path, preprocessor_config=old, processor_config=combined)
    with pytest.warns(CheckpointWarning, match="disagree on size; the latter is taken"):
        found = CLIPImageProcessor.from_pretrained(tmp_path)
    assert found.size == {"shortest_edge": 7} or found.size == {"height": 7, "width": 7}


def test_settings_that_agree_are_no_matter(tmp_path: Path) -> None:
    both = {"size": {"shortest_edge": 5}, "crop_size": 5, "processor_class": "GitProcessor"}
    again = {**both, "crop_size": {"height": 5, "width": 5}, "data_format": "channels_first"}
    write(tmp_path, preprocessor_config=both, processor_config={"image_processor": again})
    CLIPImageProcessor.from_pretrained(tmp_path)


def test_a_processor_config_without_images_leaves_the_older_file_alone(tmp_path: Path) -> None:
    config = {"processor_class": "GitProcessor"}
    write(tmp_path, preprocessor_config={"size": {"shortest_edge": 5}}, processor_config=config)
    assert CLIPImageProcessor.from_pretrained(tmp_path).size == {"shortest_edge": 5}


def test_what_is_saved_over_a_newer_programs_file_is_what_is_read(tmp_path: Path) -> None:
    write(tmp_path, processor_config={"image_processor": {"size": 7}, "video": 1})
    saved = CLIPImageProcessor(size=5, crop_size=5)
    saved.save_pretrained(tmp_path)
    assert CLIPImageProcessor.from_pretrained(tmp_path).size == saved.size
    assert json.loads((tmp_path / "processor_config.json").read_text())["video"] == 1


# ---- arguments of other libraries


@pytest.mark.parametrize("load", [Captioner.from_pretrained, GitForCausalLM.from_pretrained])
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"torch_dtype": "float16"}, "dtype="),
        ({"device_map": "auto"}, "backend="),
        ({"device": "cuda"}, "backend="),
        ({"load_in_8bit": True}, "dtype="),
        ({"backnd": "numpy"}, "did you mean backend"),
    ],
)
def test_an_argument_of_another_library_is_told_what_stands_for_it(
    load: Any,
    option: dict[str, object],
    words: str,
    model: Path,
) -> None:
    with pytest.raises(TypeError, match=words) as caught:
        load(model, **option)
    assert next(iter(option)) in str(caught.value)
