"""Files of torch.save, made here by hand: what they hold is read, what they ask for is not run."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.torch_files import KINDS, Raw, Stored, dense, encode, text, write
from refgit import CheckpointError, GitForCausalLM, GitModel, GitVisionModel, testing
from refgit.checkpoint import open_torch, read_torch, save_parameters

TWO_FORMATS = pytest.mark.parametrize("form", ["zip", "legacy"])


def refused(path: Path, *words: str, reader: Callable[[Path], Any] = open_torch) -> str:
    with pytest.raises(CheckpointError) as caught:
        reader(path)
    for word in (str(path), *words):
        assert word in str(caught.value)
    return str(caught.value)


def read_or_refused(path: Path) -> dict[str, np.ndarray]:
    """What the file holds, or nothing where it is refused; any other error is one."""
    try:
        return open_torch(path)
    except CheckpointError as error:
        if str(path) not in str(error):
            raise
        return {}


def example() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return OrderedDict(
        weight=dense(rng.standard_normal((3, 4)).astype(np.float32)),
        bias=dense(rng.standard_normal(3).astype(np.float16), parameter=True),
        count=dense(np.array(7)),
    )


# ---- what works


@TWO_FORMATS
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("parameter", [False, True])
@pytest.mark.parametrize("dtype", KINDS)
def test_every_dtype_is_read(
    dtype: str, parameter: bool, big: bool, form: str, tmp_path: Path
) -> None:
    wanted = np.arange(-6, 6).reshape(3, 4).astype(dtype)
    path = write(tmp_path / "x.bin", {"x": dense(wanted, parameter=parameter)}, form, big=big)
    found = open_torch(path)
    assert list(found) == ["x"]
    np.testing.assert_array_equal(found["x"], wanted, strict=True)


@TWO_FORMATS
@pytest.mark.parametrize("big", [False, True])
def test_bfloat16_is_widened_exactly(big: bool, form: str, tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC049, 0x0001, 0x7F80, 0x0000], "<u2")
    x = Stored(bits, (2, 2), (1, 2), 1, kind="BFloat16Storage")
    wanted = (bits.astype("<u4") << 16).view("<f4")[1:].reshape(2, 2).T
    found = open_torch(write(tmp_path / "x.bin", {"x": x}, form, big=big))["x"]
    np.testing.assert_array_equal(found, wanted, strict=True)


@TWO_FORMATS
def test_tensors_are_mapped_from_the_file_read_only_and_not_copied(
    form: str, tmp_path: Path
) -> None:
    for name, x in open_torch(write(tmp_path / "x.bin", example(), form)).items():
        base: Any = x
        while isinstance(base, np.ndarray) and type(base) is not np.memmap:
            base = base.base
        assert isinstance(base, np.memmap), f"{name} was copied"
        assert base.mode == "r"
        assert not x.flags.writeable


@TWO_FORMATS
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_view_of_a_storage_is_read_as_torch_reads_it(
    form: str, data: st.DataObject, tmp_path: Path
) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=4)))
    strides = tuple(data.draw(st.integers(0, 9)) for _ in shape)
    offset = data.draw(st.integers(0, 5))
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    storage = np.arange(max(last + 1, 0) + data.draw(st.integers(0, 3)), dtype=np.float32)
    found = open_torch(
        write(tmp_path / "x.bin", {"x": Stored(storage, shape, strides, offset)}, form)
    )
    assert found["x"].shape == shape
    assert found["x"].dtype == np.float32
    for index in np.ndindex(shape):
        place = offset + sum(i * step for i, step in zip(index, strides, strict=True))
        assert found["x"][index] == storage[place]


@TWO_FORMATS
def test_tensors_that_share_a_storage_share_their_memory(form: str, tmp_path: Path) -> None:
    storage = np.arange(12, dtype=np.float32)
    content = {"a": Stored(storage, (3, 4), (4, 1)), "b": Stored(storage, (4, 3), (1, 4))}
    found = open_torch(write(tmp_path / "x.bin", content, form))
    np.testing.assert_array_equal(found["a"].T, found["b"])
    assert np.shares_memory(found["a"], found["b"])


@TWO_FORMATS
def test_the_state_of_a_state_dict_is_not_mistaken_for_weights(form: str, tmp_path: Path) -> None:
    content = example()
    path = tmp_path / "x.bin"
    write(path, content, form)  # for the keys
    state = encode({"_metadata": {"": {"version": 1}}, "items": 3, "__setstate__": 4})
    program = b"\x80\x02" + encode(content) + state + b"b."
    assert list(open_torch(write(path, content, form, program=program))) == list(content)


@TWO_FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_scalars_lists_and_nesting_are_read_but_are_no_weights(
    protocol: int, form: str, tmp_path: Path
) -> None:
    plain = {
        "epoch": 3,
        "rate": 0.5,
        "names": ["a", "é" * 300],
        "more": {"none": None, "yes": True},
        "pair": (1, -2),
        "big": 1 << 100,
    }
    path = write(tmp_path / "x.bin", {}, form, program=pickle.dumps(plain, protocol))
    assert read_torch(path) == plain
    refused(path, "epoch", "int", "tensors")
    write(path, {"state_dict": example()}, form)
    assert list(read_torch(path)["state_dict"]) == list(example())
    refused(path, "state_dict", "dict")
    for other in ([example()], 3, None):
        refused(write(path, other, form), "expected a dict of tensors")


@TWO_FORMATS
def test_lists_that_hold_themselves_end(form: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.bin", {}, form, program=b"\x80\x02]q\x00h\x00a.")
    found = read_torch(path)
    assert found[0] is found
    refused(path)


# ---- what a pickle may not ask for


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def instruction(module: str, name: str, argument: str) -> dict[str, bytes]:
    """All the ways in which a pickle can call module.name(argument)."""
    plain = f"c{module}\n{name}\n".encode("utf-8", "surrogatepass")
    stacked = text(module) + text(name) + b"\x93"
    arguments = b"(" + text(argument) + b"t"
    return {
        "GLOBAL": plain + arguments + b"R",
        "STACK_GLOBAL": stacked + arguments + b"R",
        "INST": b"(" + text(argument) + b"i" + plain[1:],
        "OBJ": b"(" + plain + text(argument) + b"o",
        "NEWOBJ": plain + arguments + b"\x81",
        "NEWOBJ_EX": plain + arguments + b"}\x92",
        "not called": plain,
    }


@TWO_FORMATS
@pytest.mark.parametrize("way", instruction("a", "b", "c"))
@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "mkdir"), ("posix", "mkdir"), ("builtins", "eval"), ("__builtin__", "eval")],
)
def test_what_is_no_tensor_is_refused_by_name_and_does_not_run(
    module: str, name: str, way: str, form: str, tmp_path: Path
) -> None:
    target = tmp_path / "ran"
    argument = str(target) if name == "mkdir" else f"__import__('os').mkdir({str(target)!r})"
    code = Raw(instruction(module, name, argument)[way])
    for content in (code, {"a": code}, {"a": [{"b": code}]}, example() | {"z": code}):
        refused(
            write(tmp_path / "x.bin", content, form),
            f"{module}.{name}",
            "Nothing",
            reader=read_torch,
        )
        assert not target.exists()


@TWO_FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_objects_that_reduce_to_a_call_do_not_run(protocol: int, form: str, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    program = pickle.dumps({"a": {"b": Touch(target)}}, protocol)
    refused(write(tmp_path / "x.bin", {}, form, program=program), "mkdir")
    assert not target.exists()
    pickle.loads(program)
    assert target.exists()  # it would have run


@TWO_FORMATS
@pytest.mark.parametrize("way", ["GLOBAL", "STACK_GLOBAL", "INST"])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "__builtins__"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch._utils", "_rebuild_parameter_with_state"),
        ("torch", "_utils._rebuild_tensor_v2"),
        ("torch", "load"),
        ("torch", "ComplexFloatStorage"),
        ("torch", "FloatStorage.__class__"),
        ("torch", ""),
        ("", ""),
        ("collections", "OrderedDict.__init__"),
        ("collections", "_sys"),
        ("refgit.checkpoint.torch.file", "open_torch"),
        ("numpy.core.multiarray", "scalar"),
        ("torch._utils\x00", "_rebuild_tensor_v2"),
    ],
)
def test_only_exact_names_are_known(
    module: str, name: str, way: str, form: str, tmp_path: Path
) -> None:
    code = Raw(instruction(module, name, "")[way])
    shown = repr(f"{module}.{name}")
    refused(write(tmp_path / "x.bin", {"a": code}, form), shown)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    for code in (b"K\x01K\x02\x93", b"]]\x93", text("os") + b"N\x93"):
        refused(write(tmp_path / "x.bin", {"a": Raw(code)}), "not text")
    long = write(
        tmp_path / "x.bin", {"a": Raw(instruction("a" * 9999, "\udcff", "")["STACK_GLOBAL"])}
    )
    assert len(refused(long)) < 700
    refused(long).encode()  # can be printed


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (b"\x82\x01", "EXT1 1"),
        (b"\x83\x01\x00", "EXT2 1"),
        (b"\x84\x01\x00\x00\x00", "EXT4 1"),
        (b"Pname\n", "PERSID"),
        (b"\x8f", "EMPTY_SET"),
        (b"\x97", "NEXT_BUFFER"),
    ],
)
def test_instructions_that_weights_do_not_need_are_refused(
    code: bytes, name: str, tmp_path: Path
) -> None:
    refused(write(tmp_path / "x.bin", {"a": Raw(code)}), name)


def test_a_registered_extension_is_not_reached(tmp_path: Path) -> None:
    import copyreg

    copyreg.add_extension("os", "system", 240)
    try:
        refused(write(tmp_path / "x.bin", {"a": Raw(b"\x82\xf0)R")}), "EXT1")
    finally:
        copyreg.remove_extension("os", "system", 240)


KNOWN = [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"ctorch\nSize\n",
         b"ccollections\nOrderedDict\n", b"}", b"]", b")", b"N", encode(OrderedDict())]  # fmt: skip
STATE = encode({"__code__": 1, "__class__": 2, "__setstate__": 3, "__dict__": {}, "items": 4})


@pytest.mark.parametrize("what", KNOWN)
@pytest.mark.parametrize("state", [STATE, encode((None, Raw(STATE))), b"N", b"(I1\nl"])
def test_a_state_changes_nothing_that_outlives_the_file(
    what: bytes, state: bytes, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.bin", {"a": Raw(what + state + b"b")})
    refused(path, reader=open_torch)
    test_every_dtype_is_read("float32", True, False, "zip", tmp_path)


@pytest.mark.parametrize("function", KNOWN)
@pytest.mark.parametrize(
    "arguments", [b")", b"]", b"N", encode((1,)), encode(([["a", 1]],)), encode((1, 2, 3)),
                  encode((None,) * 6), encode(((), 0, (), (), 0, 0))]
)  # fmt: skip
def test_known_names_called_in_other_ways_are_refused(
    function: bytes, arguments: bytes, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.bin", {"a": Raw(function + arguments + b"R")})
    refused(path)


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02.", b"\x80\x02(.", b"\x80\x02NN.", b"\x80\x02(N.", b"\x80\x02h\x00.",
        b"\x80\x020.",
        b"\x80\x02t.", b"\x80\x02}(Nu.", b"\x80\x02}NN", b"\x80\x02]N(s.", b"\x80\x02N(\x85.",
        b"\x80\x02\x93.", b"\x80\x02Q.", b"\x80\x02R.", b"\x80\x02e.", b"\x80\x02a.",
        b"\x80\x02b.",
        b"\x80\x02X\xff\xff\xff\x7fabc.", b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.", b"\x80\x02X\x01\x00\x00\x00\xff.", b"\xff", b"",
        b"\x80\x02Nr\xff\xff\xff\xffj\xff\xff\xff\xff.",  # a memo of 4 billion places
        # whose hash would overflow the stack
        pytest.param(b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.", marks=pytest.mark.slow),
        b"\x80\x02})q\x00" + b"h\x00\x86q\x00" * 60 + b"Ns.",  # whose hash would take for ever
        pytest.param(b"\x80\x02" + b"]" * 1_100_000 + b".", marks=pytest.mark.slow),
    ],
)  # fmt: skip
@TWO_FORMATS
def test_a_pickle_that_is_none_is_refused_soon(program: bytes, form: str, tmp_path: Path) -> None:
    refused(write(tmp_path / "x.bin", {}, form, program=program))


# ---- what tensors may not look at


@TWO_FORMATS
@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((13,), (1,), 0),
        ((12,), (1,), 1),
        ((3, 4), (4, 2), 0),
        ((3, 4), (5, 1), 0),
        ((1,), (1,), 12),
        ((), (), 12),
        ((1 << 40,), (1,), 0),
        ((1 << 59, 1 << 59), (0, 0), 0),
        ((2,), (1 << 59,), 0),
        ((2,), (1 << 70,), 0),
        ((-1,), (1,), 0),
        ((3,), (-1,), 4),
        ((3,), (1,), -1),
        ((3,), (1,), 1 << 64),
        ((3,), (1, 1), 0),
        ((3.0,), (1,), 0),
        ((True,), (1,), 0),
        (("3",), (1,), 0),
        (3, (1,), 0),
        ((1,) * 65, (1,) * 65, 0),
        ((0, 1 << 59, 1 << 59), (1, 1, 1), 0),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(
    shape: Any, strides: Any, offset: int, form: str, tmp_path: Path
) -> None:
    x = Stored(np.arange(12, dtype=np.float32), shape, strides, offset)
    refused(write(tmp_path / "x.bin", {"a": x, "b": dense(np.ones(50))}, form))


@TWO_FORMATS
@pytest.mark.parametrize("numel", [0, 11, 13, 1 << 40, 1 << 61, 1 << 64, -1, "12", None, 12.0])
def test_a_storage_of_another_size_is_refused(numel: Any, form: str, tmp_path: Path) -> None:
    x = dense(np.arange(12, dtype=np.float32))
    x.numel = numel
    refused(write(tmp_path / "x.bin", {"a": x, "b": dense(np.ones(50))}, form))


@TWO_FORMATS
@pytest.mark.parametrize(
    "identity",
    [(), "storage", ("module", 1), ("storage", "FloatStorage", "0", "cpu", 1),
     ("storage", Raw(b"ctorch\nSize\n"), "0", "cpu", 1),
     ("storage", Raw(b"ctorch\nFloatStorage\n"), 0, "cpu", 1),
     ("storage", Raw(b"ctorch\nFloatStorage\n"), "0", "cpu", 1, ("1", 0, 1))],
)  # fmt: skip
def test_a_storage_described_otherwise_is_refused(identity: Any, form: str, tmp_path: Path) -> None:
    refused(write(tmp_path / "x.bin", {"a": Raw(encode(identity) + b"Q")}, form))


def test_storage_keys_do_not_leave_the_archive(tmp_path: Path) -> None:
    for key in ("../data.pkl", "/etc/passwd", "", "9"):
        path = tmp_path / "x.bin"
        x = dense(np.arange(3, dtype=np.float32))
        write(path, {"a": x})
        x.key = key
        program = b"\x80\x02" + encode({"a": x}) + b"."
        refused(write(path, {}, program=program), repr(key))


# ---- what is wrong with the files


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "x.bin", "does not exist")
    refused(tmp_path, "is a directory")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x80\x02N.",
                                     b"\x1f\x8b", b"{}", b"version https://git-lfs"])  # fmt: skip
def test_a_file_of_something_else_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(content)
    refused(path, f"({len(content)} bytes)")


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.bin", example(), compression=zipfile.ZIP_DEFLATED)
    refused(path, "compressed")


def test_an_archive_without_checksums_is_read(tmp_path: Path) -> None:
    """torch.serialization.set_crc32_options(False) writes 0 for each."""
    path = write(tmp_path / "x.bin", example())
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        checksum = archive.getinfo("archive/data.pkl").CRC
    path.write_bytes(raw.replace(struct.pack("<I", checksum), bytes(4)))
    assert list(open_torch(path)) == list(example())
    path.write_bytes(raw.replace(struct.pack("<I", checksum), b"\1\2\3\4"))
    refused(path, "checksum")


def test_storages_that_overlap_are_refused(tmp_path: Path) -> None:
    """Many names for the same bytes could ask for any amount of memory."""
    content = {str(i): dense(np.zeros(5000, np.float32)) for i in range(9)}
    path = write(tmp_path / "x.bin", content)
    with zipfile.ZipFile(path) as archive:
        first = archive.getinfo("archive/data/0").header_offset
        end = archive.start_dir
        places = [i.header_offset for i in archive.infolist() if "/data/" in i.filename]
    raw = path.read_bytes()
    directory = raw[end:]
    for place in places:
        directory = directory.replace(
            struct.pack("<I", place) + b"arch", struct.pack("<I", first) + b"arch"
        )
    path.write_bytes(raw[: places[1]] + directory[:-6] + struct.pack("<IH", places[1], 0))
    refused(path, "overlap")


@TWO_FORMATS
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_anywhere_is_named(form: str, data: st.DataObject, tmp_path: Path) -> None:
    path = write(tmp_path / "x.bin", example(), form)
    whole = path.read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:length])
    refused(path, f"({length} bytes)")


@pytest.mark.slow
@TWO_FORMATS
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_a_spoiled_file_is_refused_or_read_but_breaks_nothing(
    form: str, data: st.DataObject, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.bin", example(), form)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    for x in read_or_refused(path).values():
        assert x.nbytes <= 1000
        with np.errstate(all="ignore"):
            x.sum()


@given(content=st.binary(max_size=200))
@pytest.mark.parametrize("start", [b"", b"\x80\x02", b"PK\x03\x04"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_named(start: bytes, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(start + content)
    refused(path)


@pytest.mark.slow
@TWO_FORMATS
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    codes=st.lists(st.sampled_from([*KNOWN, STATE, *b"(tQRbaesuq\x00h\x00\x85\x86\x87\x93\x94."]))
)
def test_any_program_ends_in_a_refusal_or_a_dict(
    codes: list[Any], form: str, tmp_path: Path
) -> None:
    program = b"".join(code if isinstance(code, bytes) else bytes([code]) for code in codes)
    path = write(tmp_path / "x.bin", {}, form, program=b"\x80\x02" + program + b".")
    assert isinstance(read_or_refused(path), dict)


# ---- models


WEIGHTS, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny model's settings, without weights."""
    folder = tmp_path / "model"
    testing.tiny_model().save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    return folder


def parameters(model: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in model.state_dict().items()}


def assert_equal(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name, x in wanted.items():
        np.testing.assert_array_equal(found[name], x, err_msg=name, strict=True)


def weights() -> OrderedDict[str, Any]:
    return OrderedDict((name, dense(x)) for name, x in parameters(testing.tiny_model()).items())


def shard(folder: Path, form: str = "zip") -> dict[str, str]:
    names = list(weights())
    files = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    weight_map = {}
    for file, part in zip(files, (names[::2], names[1::2]), strict=True):
        write(folder / file, {name: weights()[name] for name in part}, form)
        weight_map |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return weight_map


@TWO_FORMATS
@pytest.mark.parametrize("sharded", [False, True])
def test_a_model_loads_from_it(sharded: bool, form: str, folder: Path) -> None:
    if sharded:
        shard(folder, form)
    else:
        buffer = {"git.embeddings.position_ids": dense(np.arange(24)[None])}
        write(folder / WEIGHTS, weights() | buffer, form)
    wanted = parameters(testing.tiny_model())
    assert_equal(parameters(GitForCausalLM.from_pretrained(folder)), wanted)
    for kind, prefix in ((GitModel, "git."), (GitVisionModel, "git.image_encoder.")):
        part = parameters(kind.from_pretrained(folder))
        assert_equal(part, {name: wanted[prefix + name] for name in part})


@pytest.mark.parametrize("sharded", [False, True])
def test_safetensors_are_preferred(sharded: bool, folder: Path) -> None:
    if sharded:
        shard(folder)
    else:
        (folder / WEIGHTS).write_bytes(b"never read")
    save_parameters(folder, parameters(testing.tiny_model(seed=1)))
    wanted = parameters(testing.tiny_model(seed=1))
    assert_equal(parameters(GitForCausalLM.from_pretrained(folder)), wanted)


def test_where_there_is_neither_all_names_are_said(folder: Path) -> None:
    refused(folder, WEIGHTS, INDEX, "model.safetensors", reader=GitForCausalLM.from_pretrained)


def test_a_wrong_tensor_or_file_is_named(folder: Path) -> None:
    path = write(folder / WEIGHTS, weights() | {"output.bias": dense(np.zeros(3))})
    refused(
        path,
        "output.bias",
        "(3,)",
        "(23,)",
        reader=lambda _: GitForCausalLM.from_pretrained(folder),
    )
    path.unlink()
    path = folder / shard(folder)["output.bias"]
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, reader=lambda _: GitForCausalLM.from_pretrained(folder))
    path.unlink()
    refused(path, "does not exist", reader=lambda _: GitForCausalLM.from_pretrained(folder))


@TWO_FORMATS
def test_an_odd_escape_in_a_string_is_refused_like_any_other_string(
    form: str, tmp_path: Path
) -> None:
    """pickletools warns of it, and warnings are errors here."""
    path = write(tmp_path / "x.bin", {}, form, program=b"\x80\x02S'\\o'\n.")
    with pytest.raises(CheckpointError, match="asks for the pickle instruction STRING"):
        open_torch(path)
