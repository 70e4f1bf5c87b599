"""`refgit convert DIR`: any checkpoint written anew, adapters merged, in every dtype."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from refgit import Captioner, GitForCausalLM, GitModel, GitProcessor, testing
from refgit.checkpoint import open_safetensors
from refgit.checkpoint.casting import cast_weight
from refgit.checkpoint.headers import safetensors_header
from refgit.checkpoint.safetensors_file import save_safetensors
from refgit.cli.main import main
from refgit.jobs.job import fingerprint
from refgit.parts import find_parts
from tests.helpers.command_line import model, picture

__all__ = ["model"]
QUERY = "git.encoder.layer.0.attention.self.query"
WEIGHTS = "model.safetensors"


def dtypes(folder: Path) -> set[str]:
    return {header.dtype for header in safetensors_header(folder / WEIGHTS).values()}


def config_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "config.json").read_text())
    return found


def adapter_of(model: Path, folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    tensors = {"A": rng.standard_normal((2, 16)), "B": rng.standard_normal((16, 2))}
    save_file(
        {
            f"base_model.model.{QUERY}.lora_{name}.weight": x.astype(np.float32)
            for name, x in tensors.items()
        },
        folder / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    config |= {"base_model_name_or_path": str(model)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_a_checkpoint_comes_out_as_it_is(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(model), "--out", str(out)]) == 0
    assert (out / WEIGHTS).read_bytes() == (model / WEIGHTS).read_bytes()
    assert {path.name for path in out.iterdir()} >= {path.name for path in model.iterdir()}
    assert config_of(out)["torch_dtype"] == "float32"
    image = picture(tmp_path / "a.png")
    expected = Captioner.from_pretrained(model).caption(image)
    assert Captioner.from_pretrained(out).caption(image) == expected


@pytest.mark.parametrize(
    ("dtype", "kind", "bits"),
    [("float16", "F16", 11), ("bfloat16", "BF16", 8), ("float32", "F32", 24)],
)
def test_weights_become_another_dtype_and_stay_it(
    dtype: str, kind: str, bits: int, model: Path, tmp_path: Path
) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    assert main(["convert", str(model), "--dtype", dtype, "--out", str(out)]) == 0
    assert dtypes(out) == {kind}
    assert config_of(out)["torch_dtype"] == dtype
    before = load_file(model / WEIGHTS)
    for name, x in open_safetensors(out / WEIGHTS).items():
        np.testing.assert_allclose(x, before[name], rtol=2.0**-bits, atol=1e-7)
    assert main(["convert", str(out), "--out", str(again)]) == 0  # as-is
    assert (again / WEIGHTS).read_bytes() == (out / WEIGHTS).read_bytes()
    with safe_open(out / WEIGHTS, framework="numpy") as file:  # the library finds it valid
        assert file.metadata() == {"format": "pt"}


def test_an_adapter_comes_out_merged(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter, out = adapter_of(model, tmp_path / "adapter"), tmp_path / "out"
    assert main(["convert", str(adapter), "--out", str(out)]) == 0
    assert "the adapter merged" in capsys.readouterr().out
    expected = GitForCausalLM.from_pretrained(adapter).state_dict()
    for name, x in GitForCausalLM.from_pretrained(out).state_dict().items():
        np.testing.assert_array_equal(x, expected[name])
    assert not (out / "adapter_config.json").exists()
    GitProcessor.from_pretrained(out)


def test_a_base_in_half_precision_stays_that_when_an_adapter_is_merged(
    model: Path, tmp_path: Path
) -> None:
    half, out = tmp_path / "half", tmp_path / "out"
    assert main(["convert", str(model), "--dtype", "bfloat16", "--out", str(half)]) == 0
    adapter = adapter_of(half, tmp_path / "adapter")
    assert main(["convert", str(adapter), "--out", str(out)]) == 0
    assert dtypes(out) == {"BF16"}


def test_a_model_without_a_head_stays_one(tmp_path: Path) -> None:
    folder, out = tmp_path / "git", tmp_path / "out"
    GitModel(testing.CONFIG).save_pretrained(folder)
    assert main(["convert", str(folder), "--out", str(out)]) == 1  # it has no processor
    assert (out / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    assert config_of(out)["architectures"] == ["GitModel"]


def test_a_video_model_comes_out_with_both_spellings(tmp_path: Path) -> None:
    folder, out = tmp_path / "video", tmp_path / "out"
    config = testing.tiny_config(num_image_with_embedding=2)
    testing.tiny_model(config=config).save_pretrained(folder)
    assert main(["convert", str(folder), "--dtype", "bfloat16", "--out", str(out)]) == 1
    names = {path.name for path in folder.iterdir()}
    assert {path.name for path in out.iterdir()} == names
    GitForCausalLM.from_pretrained(out)


def test_without_a_processor_all_else_is_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(model, bare, ignore=shutil.ignore_patterns("vocab.txt", "tokenizer.json"))
    out = tmp_path / "out"
    assert main(["convert", str(bare), "--out", str(out)]) == 1
    assert "has no processor" in capsys.readouterr().err
    assert (out / WEIGHTS).exists()
    command = ["convert", str(bare), "--out", str(out), "--force", "--processor", str(model)]
    assert main(command) == 0
    GitProcessor.from_pretrained(out)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--name", "GIT_BASE"], "--name belongs to a file of Microsoft's"),
        (["--base", "nowhere"], "is not an adapter"),
        (["--dtype", "float64"], "float64"),
    ],
)
def test_options_that_do_not_belong_are_refused(
    more: list[str], words: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["convert", str(model), "--out", str(tmp_path / "out"), *more])
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    assert code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_numbers_too_large_for_a_dtype_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = tmp_path / "large"
    shutil.copytree(model, large)
    tensors = load_file(large / WEIGHTS)
    tensors["output.bias"] = np.full(23, 1e5, np.float32)
    save_file(tensors, large / WEIGHTS)
    assert main(["convert", str(large), "--dtype", "float16", "--out", str(tmp_path / "o")]) == 2
    assert "output.bias has numbers as large as 100000" in capsys.readouterr().err


FLOATS = hnp.arrays(np.float32, 9, elements=st.floats(-(2.0**99), 2.0**99, width=32))


@given(FLOATS)
def test_bfloat16_is_the_nearest_and_of_two_the_even_one(x: np.ndarray) -> None:
    bits = cast_weight(x, "bfloat16", "x", Path("x"))
    found = (bits.astype("<u4") << 16).view("<f4").astype(np.float64)
    lower = ((x.view("<u4") >> 16) << 16).view("<f4").astype(np.float64)
    upper = (((x.view("<u4") >> 16) + 1) << 16).astype("<u4").view("<f4").astype(np.float64)
    down, up = np.abs(x - lower), np.abs(upper - x)
    assert np.array_equal(np.abs(x - found), np.minimum(down, up))
    tie = down == up
    assert not (bits[tie] & 1).any()


def test_bfloat16_beside_other_dtypes_is_aligned(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    odd = cast_weight(np.arange(3, dtype=np.float32), "bfloat16", "x", path)
    arrays = {"a": odd, "b": np.arange(5.0), "c": np.arange(7, dtype=np.float32)}
    save_safetensors(path, arrays, {})
    for name, x in open_safetensors(path).items():
        np.testing.assert_array_equal(x, np.arange(len(arrays[name])))


# ---- what other commands say of an adapter


def test_info_describes_an_adapter_and_its_base(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = adapter_of(model, tmp_path / "adapter")
    assert main(["info", str(adapter)]) == 0
    out = capsys.readouterr().out
    assert "LoRA, rank 2, alpha 4, 2 tensors, 64 numbers; its base is" in out
    assert main(["info", str(adapter), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["adapter"]["bytes"] == 256
    assert found["weights"]["files"] == [WEIGHTS]  # of the base
    assert main(["info", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["adapter"] is None


def test_a_job_is_only_resumed_with_its_base_its_adapter_and_its_processor(
    model: Path, tmp_path: Path
) -> None:
    def copied(name: str) -> Path:
        return Path(shutil.copytree(model, tmp_path / name))

    base, adapter, apart = copied("base"), adapter_of(model, tmp_path / "a"), copied("apart")

    def of() -> str:
        return fingerprint(find_parts(adapter, base=base, processor=apart))

    first = of()
    assert first == of() != fingerprint(base)
    assert fingerprint(find_parts(adapter, base=model, processor=apart)) == first
    seen = {first}
    for folder, name in (
        (base, "config.json"),
        (adapter, "adapter_config.json"),
        (apart, "vocab.txt"),
    ):
        path = folder / name
        path.write_text(path.read_text() + "\n")
        seen.add(of())
    for folder, name in ((base, WEIGHTS), (adapter, "adapter_model.safetensors")):
        tensors = {key: x + 1 for key, x in load_file(folder / name).items()}
        save_file(tensors, folder / name)
        seen.add(of())
    assert len(seen) == 6


def test_a_job_captions_with_an_adapter(model: Path, tmp_path: Path) -> None:
    adapter, out = adapter_of(model, tmp_path / "a"), tmp_path / "out.jsonl"
    image = picture(tmp_path / "images" / "a.png")
    command = ["caption", str(image), "--model", str(adapter), "--out", str(out)]
    assert main(command) == 0
    (row,) = map(json.loads, out.read_text().splitlines())
    assert row["caption"] == Captioner.from_pretrained(adapter).caption(image)
