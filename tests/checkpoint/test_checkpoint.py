"""Checkpoints: what is written is read back, and whatever is wrong with a file is said."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refgit import CheckpointError, GitConfig, GitForCausalLM, GitModel, GitVisionModel, testing
from refgit.checkpoint import open_safetensors, save_parameters
from refgit.errors import CheckpointWarning

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
HEAD = "output.weight"
QUERY = "git.encoder.layer.0.attention.self.query.weight"


def parameters(model: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in model.state_dict().items()}


def write(folder: Path, tensors: Mapping[str, np.ndarray], name: str = WEIGHTS) -> Path:
    safetensors.numpy.save_file(dict(tensors), folder / name)
    return folder / name


def write_raw(path: Path, header: Mapping[str, Any], data: bytes) -> None:
    """A safetensors file of any dtype, by hand."""
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def assert_equal(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name, x in wanted.items():
        np.testing.assert_array_equal(found[name], x, err_msg=name, strict=True)


def refused(folder: Path, *words: str, kind: type = GitForCausalLM) -> str:
    """The one-line message of the error that loading raises, which must hold all the words."""
    with pytest.raises(CheckpointError) as caught:
        kind.from_pretrained(folder)
    message = str(caught.value)
    for word in words:
        assert word in message
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of the tiny model."""
    testing.tiny_model().save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def tensors(folder: Path) -> dict[str, np.ndarray]:
    """The tensors of that checkpoint, to spoil."""
    return safetensors.numpy.load_file(folder / WEIGHTS)


def shard(folder: Path, tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Put the weights into two files with an index, as transformers does."""
    (folder / WEIGHTS).unlink()
    names = list(tensors)
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map = {}
    for file, part in zip(files, (names[::2], names[1::2]), strict=True):
        write(folder, {name: tensors[name] for name in part}, file)
        weight_map |= dict.fromkeys(part, file)
    write_index(folder, weight_map)
    return weight_map


def write_index(folder: Path, weight_map: Any) -> None:
    entries = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(entries))


# ---- what works


def test_saved_parameters_come_back_unchanged(folder: Path) -> None:
    loaded = GitForCausalLM.from_pretrained(folder)
    assert_equal(parameters(loaded), parameters(testing.tiny_model()))
    assert GitConfig.from_pretrained(folder).replace(extra={}) == testing.CONFIG


def test_a_loaded_model_computes_the_same(folder: Path) -> None:
    arguments = {"input_ids": testing.tokens(), "pixel_values": testing.pixels()}
    found = GitForCausalLM.from_pretrained(folder)(**arguments).logits
    np.testing.assert_array_equal(found, testing.tiny_model()(**arguments).logits)


def test_saving_again_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    GitForCausalLM.from_pretrained(folder).save_pretrained(again)
    for name in (WEIGHTS, "config.json", "generation_config.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_model_saves_over_the_files_it_was_loaded_from(folder: Path) -> None:
    before = (folder / WEIGHTS).read_bytes()
    model = GitForCausalLM.from_pretrained(folder)  # its weights lie in the file
    model.save_pretrained(folder)
    assert (folder / WEIGHTS).read_bytes() == before
    assert_equal(parameters(model), parameters(testing.tiny_model()))


@pytest.mark.parametrize(("kind", "prefix"), [(GitModel, "git."), (GitForCausalLM, "")])
def test_a_part_loads_from_the_whole_and_from_its_own(
    kind: type[GitModel], prefix: str, folder: Path, tmp_path: Path
) -> None:
    part = kind.from_pretrained(folder)
    wanted = {
        name.removeprefix(prefix): x
        for name, x in parameters(testing.tiny_model()).items()
        if name.startswith(prefix)
    }
    assert_equal(parameters(part), wanted)
    part.save_pretrained(tmp_path / "part")
    assert_equal(parameters(kind.from_pretrained(tmp_path / "part")), wanted)


def test_the_image_encoder_loads_from_the_whole_and_from_its_own(
    folder: Path, tmp_path: Path
) -> None:
    part = GitVisionModel.from_pretrained(folder)
    prefix = "git.image_encoder."
    wanted = {
        name.removeprefix(prefix): x
        for name, x in parameters(testing.tiny_model()).items()
        if name.startswith(prefix)
    }
    assert_equal(parameters(part), wanted)
    assert part.config == testing.VISION
    part.save_pretrained(tmp_path / "part")
    assert_equal(parameters(GitVisionModel.from_pretrained(tmp_path / "part")), wanted)


def test_shards_are_put_together(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    encoder = parameters(GitVisionModel.from_pretrained(folder))
    shard(folder, tensors)
    loaded = GitForCausalLM.from_pretrained(folder)
    assert_equal(parameters(loaded), parameters(testing.tiny_model()))
    assert_equal(parameters(GitVisionModel.from_pretrained(folder)), encoder)


def test_a_tensor_is_taken_from_the_shard_that_the_index_names(
    folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    weight_map = shard(folder, tensors)
    for other in set(weight_map.values()) - {weight_map[HEAD]}:
        stale = safetensors.numpy.load_file(folder / other)
        write(folder, {**stale, HEAD: np.zeros_like(tensors[HEAD])}, other)
        loaded = GitForCausalLM.from_pretrained(folder)
        np.testing.assert_array_equal(parameters(loaded)[HEAD], tensors[HEAD])


@pytest.mark.parametrize("stored", ["float16", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_other_floating_point_files_are_converted(
    stored: str, dtype: str, folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    converted = {name: x.astype(stored) for name, x in tensors.items()}
    write(folder, converted)
    loaded = parameters(GitForCausalLM.from_pretrained(folder, dtype=dtype))
    assert set(loaded) == set(tensors)
    for name, x in converted.items():
        np.testing.assert_array_equal(loaded[name], x.astype(dtype), strict=True)


def test_bfloat16_is_widened_exactly(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    upper = {name: (x.view("<u4") >> 16).astype("<u2") for name, x in tensors.items()}
    header, data = {}, b""
    for name, bits in upper.items():
        start, data = len(data), data + bits.tobytes()
        header[name] = {"dtype": "BF16", "shape": bits.shape, "data_offsets": [start, len(data)]}
    write_raw(folder / WEIGHTS, header, data)
    loaded = parameters(GitForCausalLM.from_pretrained(folder))
    for name, bits in upper.items():
        wanted = (bits.astype("<u4") << 16).view("<f4")
        np.testing.assert_array_equal(loaded[name], wanted, strict=True)


@pytest.mark.parametrize("sharded", [False, True])
def test_weights_are_mapped_from_the_file_read_only_and_not_copied(
    sharded: bool, folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    if sharded:
        shard(folder, tensors)
    for name, x in parameters(GitForCausalLM.from_pretrained(folder)).items():
        base: Any = x
        while isinstance(base, np.ndarray) and type(base) is not np.memmap:
            base = base.base
        assert isinstance(base, np.memmap), f"{name} was copied"
        assert base.mode == "r"
        assert not x.flags.writeable


def test_position_ids_buffers_are_ignored(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    buffers = {
        "git.embeddings.position_ids": np.arange(24)[None],
        "git.image_encoder.vision_model.embeddings.position_ids": np.arange(5)[None],
    }
    write(folder, {**tensors, **buffers})
    for kind in (GitForCausalLM, GitModel, GitVisionModel):
        assert "position_ids" not in str(list(kind.from_pretrained(folder).state_dict()))


def test_metadata_and_unaligned_tensors_are_read(
    folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    for padding in range(4):  # the data then starts at every offset modulo 4
        text = json.dumps({"__metadata__": {"format": "pt" + "x" * padding}})
        header, data = json.loads(text), b""
        for name, x in tensors.items():
            start, data = len(data), data + x.tobytes()
            header[name] = {"dtype": "F32", "shape": x.shape, "data_offsets": [start, len(data)]}
        write_raw(folder / WEIGHTS, header, data)
        loaded = parameters(GitForCausalLM.from_pretrained(folder))
        assert_equal(loaded, {name: tensors[name] for name in loaded})


def test_a_tied_head_need_not_be_stored(tmp_path: Path) -> None:
    """transformers leaves output.weight out of such a checkpoint."""
    model = testing.tiny_model(config=testing.CONFIG.replace(tie_word_embeddings=True))
    model.save_pretrained(tmp_path)
    stored = safetensors.numpy.load_file(tmp_path / WEIGHTS)
    stored.pop(HEAD, None)
    write(tmp_path, stored)
    assert_equal(parameters(GitForCausalLM.from_pretrained(tmp_path)), parameters(model))


# ---- what is wrong with the tensors


def test_a_missing_tensor_is_named(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    del tensors[QUERY]
    path = write(folder, tensors)
    refused(folder, str(path), QUERY, "(16, 16)")


def test_many_missing_tensors_are_counted(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    path = write(folder, {HEAD: tensors[HEAD]})
    assert len(refused(folder, str(path), f"and {len(tensors) - 4} more")) < 500


@pytest.mark.parametrize("kind", [GitForCausalLM, GitModel])
def test_an_unexpected_tensor_is_said_and_left_out(
    kind: type, folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    path = write(folder, {**tensors, "git.encoder.layer.3.extra": tensors[HEAD]})
    with pytest.warns(CheckpointWarning, match=r"git\.encoder\.layer\.3\.extra") as told:
        found = kind.from_pretrained(folder).state_dict()
    assert str(path) in str(told[0].message)
    assert all(np.array_equal(x, tensors[kind.prefix + name]) for name, x in found.items())


def test_a_layer_that_the_image_encoder_does_not_have_is_said_and_left_out(
    folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    inside = "vision_model.encoder.layers.2.mlp.fc1.bias"
    write(folder, {**tensors, f"git.image_encoder.{inside}": np.zeros(20, np.float32)})
    with pytest.warns(CheckpointWarning, match=inside):
        GitVisionModel.from_pretrained(folder)


@pytest.mark.parametrize("kind", [GitForCausalLM, GitModel, GitVisionModel])
def test_another_models_weights_are_refused(kind: type, folder: Path) -> None:
    path = write(folder, {"bert.pooler.dense.weight": np.zeros((2, 2), np.float32)})
    refused(folder, str(path), "tensor", kind=kind)


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        (QUERY, GitForCausalLM, "(16, 16)"),
        (HEAD, GitForCausalLM, "(23, 16)"),
        ("git.embeddings.word_embeddings.weight", GitModel, "(23, 16)"),
        (
            "git.image_encoder.vision_model.embeddings.patch_embedding.weight",
            GitVisionModel,
            "(12, 3, 4, 4)",
        ),
    ],
)
def test_a_wrong_shape_is_named(
    name: str, kind: type, wanted: str, folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    path = write(folder, {**tensors, name: np.zeros((7, 3), np.float32)})
    inside = name.removeprefix(kind.prefix)
    refused(folder, str(path), inside, "(7, 3)", wanted, kind=kind)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "U16", "I8", "I64", "BOOL"])
def test_a_dtype_that_is_no_floating_point_is_named(
    dtype: str, folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    """Quantised weights cast to floats would be wrong without a word."""
    size = {"U16": 2, "I64": 8}.get(dtype, 1)
    header, data = {}, b""
    for name, x in tensors.items():
        bytes_ = bytes(x.size * size) if name == QUERY else x.tobytes()
        start, data = len(data), data + bytes_
        kind = dtype if name == QUERY else "F32"
        header[name] = {"dtype": kind, "shape": x.shape, "data_offsets": [start, len(data)]}
    write_raw(folder / WEIGHTS, header, data)
    refused(folder, str(folder / WEIGHTS), QUERY, dtype, "F32")


# ---- what is wrong with the files


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    refused(folder, str(folder), WEIGHTS, INDEX)


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    for kind in (GitForCausalLM, GitModel, GitVisionModel):
        refused(tmp_path / "nowhere", str(tmp_path / "nowhere"), "does not exist", kind=kind)


def test_a_file_in_the_place_of_a_directory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_text("")
    refused(path, str(path))


def test_a_directory_in_the_place_of_the_weights_is_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    refused(folder, str(folder))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_anywhere_is_named(data: st.DataObject, folder: Path) -> None:
    path = folder / "cut.safetensors"
    whole = (folder / WEIGHTS).read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:length])
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(path))}.*\({length} bytes\)"):
        open_safetensors(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=64) | st.binary(max_size=64).map(lambda x: b"\x20" + b"\0" * 7 + x)
)
def test_garbage_in_the_place_of_weights_is_named(content: bytes, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(content)
    refused(folder, str(folder / WEIGHTS))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        {"dtype": "NONE", "shape": [1], "data_offsets": [0, 4]},
        {"shape": [1], "data_offsets": [0, 4]},
        [],
    ],
)
def test_a_header_that_contradicts_itself_is_named(entry: Any, folder: Path) -> None:
    write_raw(folder / WEIGHTS, {HEAD: entry}, bytes(4))
    refused(folder, str(folder / WEIGHTS))


def test_a_cut_shard_is_named(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    path = folder / shard(folder, tensors)[HEAD]
    path.write_bytes(path.read_bytes()[:-1])
    refused(folder, str(path))


# ---- what is wrong with the index


def test_an_index_that_names_a_missing_shard_names_it(
    folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    path = folder / shard(folder, tensors)[HEAD]
    path.unlink()
    refused(folder, str(path), "does not exist")


@pytest.mark.parametrize("file", ["../weights.safetensors", "..", ".", "", "a/b.safetensors"])
def test_an_index_that_leaves_its_directory_is_refused(
    file: str, folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    weight_map = shard(folder, tensors)
    write(folder.parent, tensors, "weights.safetensors")
    write_index(folder, {**weight_map, HEAD: file})
    refused(folder, str(folder / INDEX), repr(file), "its own directory")


def test_an_index_with_an_absolute_path_is_refused(
    folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    weight_map = shard(folder, tensors)
    write_index(folder, {**weight_map, HEAD: str(folder / weight_map[HEAD])})
    refused(folder, str(folder / INDEX), "its own directory")


@pytest.mark.parametrize("weight_map", [None, [], "model.safetensors"])
def test_an_index_without_a_weight_map_is_named(
    weight_map: Any, folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    shard(folder, tensors)
    write_index(folder, weight_map)
    refused(folder, str(folder / INDEX), "weight_map")


@pytest.mark.parametrize("file", [3, None, ["model-00001-of-00002.safetensors"]])
def test_an_index_whose_entry_is_no_file_name_is_refused(
    file: Any, folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    weight_map = shard(folder, tensors)
    write_index(folder, {**weight_map, HEAD: file})
    refused(folder, str(folder / INDEX), repr(file))


def test_an_index_that_lists_what_its_files_lack_names_the_tensor(
    folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    weight_map = shard(folder, tensors)
    file = folder / weight_map[HEAD]
    write(folder, {"git.other": tensors[HEAD]}, file.name)
    refused(folder, str(folder / INDEX), "tensor")


def test_a_tensor_that_no_shard_holds_is_named(
    folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    weight_map = shard(folder, {name: x for name, x in tensors.items() if name != HEAD})
    refused(folder, str(folder / INDEX), HEAD, "(23, 16)")
    write_index(folder, {**weight_map, HEAD: weight_map[QUERY]})
    refused(folder, str(folder / INDEX), HEAD)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe{}", b"3"])
def test_a_broken_index_is_named(
    content: bytes, folder: Path, tensors: dict[str, np.ndarray]
) -> None:
    shard(folder, tensors)
    (folder / INDEX).write_bytes(content)
    refused(folder, str(folder / INDEX))


# ---- what is wrong with config.json

ALL_KINDS = pytest.mark.parametrize("kind", [GitForCausalLM, GitModel, GitVisionModel])


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@ALL_KINDS
@pytest.mark.parametrize("found", ["blip", "bert", "", None, 3, ["git"]])
def test_an_unknown_model_type_is_named(found: Any, kind: type, folder: Path) -> None:
    change_config(folder, model_type=found)
    refused(folder, str(folder / "config.json"), repr(found), '"git', kind=kind)


@ALL_KINDS
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe{}", b'"git"', b"[" * 99999])
def test_a_broken_config_is_named(content: bytes, kind: type, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    refused(folder, str(folder / "config.json"), kind=kind)


@ALL_KINDS
def test_a_missing_config_is_named(kind: type, folder: Path) -> None:
    (folder / "config.json").unlink()
    refused(folder, str(folder / "config.json"), "does not exist", kind=kind)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_attention_heads": 5}, ["GitConfig.hidden_size", "16", "5"]),
        ({"hidden_size": -16}, ["GitConfig.hidden_size", "-16", "positive integer"]),
        ({"vocab_size": "many"}, ["GitConfig.vocab_size", "'many'"]),
        ({"layer_norm_eps": None}, ["GitConfig.layer_norm_eps", "None"]),
        ({"hidden_act": "tan"}, ["GitConfig.hidden_act", "'tan'", "gelu"]),
        ({"vision_config": 7}, ["vision_config", "7"]),
        ({"vision_config": [7]}, ["vision_config", "[7]"]),
        ({"vision_config": {"patch_size": 0}}, ["GitVisionConfig.patch_size", "0"]),
        ({"vision_config": {"image_size": 225}}, ["GitVisionConfig.image_size", "225", "16"]),
    ],
)
def test_an_impossible_value_in_config_json_names_file_and_field(
    changes: dict[str, Any], words: list[str], folder: Path
) -> None:
    change_config(folder, **changes)
    refused(folder, str(folder / "config.json"), *words)
    if "vision_config" in changes:
        refused(folder, str(folder / "config.json"), *words, kind=GitVisionModel)


def test_an_impossible_value_in_the_image_encoders_own_config_is_named(tmp_path: Path) -> None:
    GitVisionModel(testing.VISION).save_pretrained(tmp_path)
    change_config(tmp_path, num_channels=0)
    path = str(tmp_path / "config.json")
    refused(tmp_path, path, "GitVisionConfig.num_channels", "0", kind=GitVisionModel)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", []),
        ("[]", ["list"]),
        ('{"max_length": "long"}', ["max_length", "'long'"]),
        ('{"max_length": 0}', ["max_length", "0"]),
        ('{"min_length": -1}', ["min_length", "-1"]),
        ('{"eos_token_id": [2, "end"]}', ["eos_token_id", "'end'"]),
        ('{"bos_token_id": 1.5}', ["bos_token_id", "1.5"]),
        ('{"pad_token_id": -1}', ["pad_token_id", "-1"]),
    ],
)
def test_a_broken_generation_config_is_named(content: str, words: list[str], folder: Path) -> None:
    (folder / "generation_config.json").write_text(content)
    refused(folder, str(folder / "generation_config.json"), *words)


# ---- saving


def test_an_interrupted_save_leaves_the_old_file_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fill_the_disk(tensors: Any, path: Path, **options: Any) -> None:
        Path(path).write_bytes(b"half a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", fill_the_disk)
    with pytest.raises(OSError, match="No space"):
        save_parameters(folder, {"a": np.zeros(3)})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_interrupted_config_leaves_the_old_file_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    real = Path.write_text

    def fill_the_disk(path: Path, text: str, **options: Any) -> None:
        real(path, text[:5], **options)
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", fill_the_disk)
    with pytest.raises(OSError, match="No space"):
        testing.CONFIG.replace(vocab_size=99).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_saved_weights_may_be_read_by_whom_other_new_files_may(tmp_path: Path) -> None:
    testing.tiny_model().save_pretrained(tmp_path / "model")
    other = tmp_path / "other"
    other.touch()
    for file in (tmp_path / "model").iterdir():
        assert file.stat().st_mode == other.stat().st_mode, file.name
