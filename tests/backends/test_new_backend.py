"""Another array library needs a backend of a few lines: the definitions run on JAX's NumPy as they
are, with the cache and every search, though its arrays cannot be written into.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from helpers import golden_cases as golden
from helpers.golden_checks import relative_error
from refgit import to_numpy
from refgit_backends import Backend, get_backend

jax = pytest.importorskip("jax", reason="JAX is not installed (pip install jax)")
# XLA compiles each operation for each shape, so texts are short, the first token with the image and
# two by the cache, and the tests share a model and its inputs.
pytestmark = [
    pytest.mark.slow,
    # Without jax_enable_x64 JAX has no wider types, and says so wherever one is asked for.
    pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning"),
]


class JaxBackend(Backend):
    """JAX's arrays on its default device."""

    name = "jax"
    xp = jax.numpy

    def synchronize(self) -> None:
        """See `Backend.synchronize`."""
        (jax.numpy.zeros(()) + 0).block_until_ready()


@pytest.fixture(params=["float32", "float64"])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def test_every_stored_tensor_and_text_is_the_oracles(precision: str) -> None:
    case = f"tiny_{precision}"
    model, inputs = golden.model(case, JaxBackend()), golden.inputs(case)
    hooks: dict[str, np.ndarray] = {}

    def keep(name: str, x: Any) -> None:
        hooks[name] = to_numpy(x)

    out = model(**inputs, hook=keep)
    assert isinstance(out.logits, jax.Array)
    found = {f"tap.{name}": x for name, x in hooks.items()}
    found |= {"output.logits": to_numpy(out.logits), "output.loss": to_numpy(out.loss)}
    wanted = {name: x for name, x in golden.tensors(case).items() if name in found}
    assert len(wanted) > 50
    for name, value in wanted.items():
        assert found[name].dtype == precision
        error = relative_error(golden.stored_part(case, found[name]), value)
        assert error <= golden.MANIFEST[case]["tolerance"], f"{name}: relative error {error:.2e}"
    text = model.generate(inputs["pixel_values"], max_length=4)
    assert isinstance(text, jax.Array)
    np.testing.assert_array_equal(to_numpy(text), golden.group(case, "ids")["caption"][:, :4])


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"do_sample": True, "seed": 0}])
def test_searches_write_what_numpy_writes(options: dict[str, Any]) -> None:
    pixels = golden.inputs("tiny_float32")["pixel_values"]
    found, wanted = (
        golden.model("tiny_float32", backend).generate(pixels, max_length=4, **options)
        for backend in (JaxBackend(), get_backend("numpy", kernels="off"))
    )
    np.testing.assert_array_equal(to_numpy(found), wanted)


def test_what_the_defaults_of_a_backend_do() -> None:
    backend = JaxBackend()
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    there = backend.asarray(x)
    assert backend.owns(there)
    assert not backend.owns(x)
    assert backend.asarray(there) is there
    assert backend.asarray(there, "float16").dtype == np.float16
    np.testing.assert_array_equal(backend.to_numpy(there), x)
    np.testing.assert_array_equal(to_numpy(there), x)
    backend.synchronize()
    assert (backend.on_gpu, backend.device_name) == (False, "cpu")
    assert get_backend(backend) is backend
    assert repr(backend) == "<JaxBackend kernels: none>"
