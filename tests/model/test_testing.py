"""refgit.testing: what users' own tests get."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from refgit import testing


def test_the_example_of_the_module_holds() -> None:
    found = doctest.testmod(testing)
    assert found.failed == 0
    assert found.attempted > 0


def test_the_inputs_fit_the_model() -> None:
    out = testing.tiny_model()(**testing.tiny_inputs(2, length=3))
    assert out.logits.shape == (2, testing.IMAGE_TOKENS + 3, testing.CONFIG.vocab_size)


@pytest.mark.parametrize("frames", [None, 1, 3])
def test_videos_fit_a_model_that_takes_them(frames: int | None) -> None:
    model = testing.tiny_model(config=testing.tiny_config(num_image_with_embedding=3))
    cache = model.encode_image(testing.pixels(2, frames=frames))
    assert cache.image_length == testing.IMAGE_TOKENS * (frames or 1)


def test_a_config_may_be_changed_inside_and_out() -> None:
    config = testing.tiny_config(vocab_size=9, vision_config={"num_hidden_layers": 1})
    assert (config.vocab_size, config.vision_config.num_hidden_layers) == (9, 1)
    assert config.vision_config.hidden_size == testing.VISION.hidden_size
    assert testing.tiny_config() == testing.CONFIG


def test_seeds_decide_the_inputs() -> None:
    for draw in (testing.pixels, testing.tokens):
        np.testing.assert_array_equal(draw(2, seed=1), draw(2, seed=1))
        assert (draw(2, seed=1) != draw(2, seed=2)).any()
    assert (testing.tokens(3)[:, 0] == testing.CONFIG.bos_token_id).all()
