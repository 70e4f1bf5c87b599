"""The cache: keys and values of everything the decoder has read, so that it is read once.

Keys and values are what attention makes of a token for later ones to attend to
(layers/attention.py). Image tokens never attend to text, so their keys and values do not depend on
the text below the image. They are stored once per image; the text's grow with every token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from refgit.layers._array_api import Array, array_namespace, filled, write


class KeyValueCache:
    """Keys and values of each decoder layer, of image and text separately.

    Invariants: every layer holds the same number of tokens between two forward passes; the image
    part is set at most once, before any text; texts b, b + B', b + 2B' ... belong to image
    b mod B', B' being the number of images.

    Attributes
    ----------
    num_layers : int
        Decoder layers.
    """

    def __init__(self, num_layers: int) -> None:
        self.num_layers = num_layers
        self._image: list[tuple[Array, Array] | None] = [None] * num_layers
        self._text: list[_Growing | None] = [None] * num_layers
        self._text_mask: Array | None = None

    @property
    def image_length(self) -> int:
        """Image tokens N in the cache, 0 without an image."""
        first = self._image[0]
        return 0 if first is None else int(first[0].shape[2])

    @property
    def text_length(self) -> int:
        """Text tokens T in the cache."""
        first = self._text[0]
        return 0 if first is None else first.length

    @property
    def batch_size(self) -> int | None:
        """Texts B (batch rows); None before any text."""
        first = self._text[0]
        return None if first is None else first.batch_size

    @property
    def num_images(self) -> int | None:
        """Images B'; None without an image."""
        first = self._image[0]
        return None if first is None else int(first[0].shape[0])

    @property
    def head_shape(self) -> tuple[int, int] | None:
        """Heads H and their width D/H; None while nothing is stored."""
        image, text = self._image[0], self._text[0]
        if image is None and text is None:
            return None
        key = image[0] if text is None else text.buffers[0]  # type: ignore[index]
        return int(key.shape[1]), int(key.shape[3])

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Undo what the block has stored if it raises."""
        image, text, mask = list(self._image), list(self._text), self._text_mask
        lengths = [0 if part is None else part.length for part in text]
        try:
            yield
        except BaseException:
            self._image, self._text, self._text_mask = image, text, mask
            for part, length in zip(text, lengths, strict=True):
                if part is not None:
                    part.length = length
            raise

    def fork(self) -> KeyValueCache:
        """Return a cache that goes on from here by itself; the images are shared, not copied."""
        other = KeyValueCache(self.num_layers)
        other._image = list(self._image)
        other._text = [None if part is None else part.copy() for part in self._text]
        other._text_mask = self._text_mask
        return other

    def select(self, rows: Array) -> None:
        """Go on with these rows of the text, in this order; some may be left out, others repeated.

        Parameters
        ----------
        rows : int64 array (R,), on the device
            Row r continues what was row rows[r]. Images are not touched; R is a multiple of their
            number, and row r belongs to image r modulo that.
        """
        for i, part in enumerate(self._text):
            self._text[i] = None if part is None else part.selected(rows)
        if self._text_mask is not None:
            self._text_mask = array_namespace(rows).take(self._text_mask, rows, axis=0)

    def select_images(self, images: Array) -> None:
        """Keep some of the images, by index; select the rows that belong to them next."""
        xp = array_namespace(images)
        for i, pair in enumerate(self._image):
            if pair is not None:
                key, value = pair
                self._image[i] = (xp.take(key, images, axis=0), xp.take(value, images, axis=0))

    def crop(self, length: int) -> None:
        """Forget all text tokens but the first `length`.

        Raises
        ------
        ValueError
            The cache holds fewer.
        """
        if not 0 <= length <= self.text_length:
            raise ValueError(
                f"length is {length}; expected 0 to {self.text_length}, the text tokens in the "
                "cache."
            )
        mask = self._text_mask
        self._text_mask = None if mask is None or length == 0 else mask[:, :length]
        for i, part in enumerate(self._text):
            self._text[i] = None if part is None or length == 0 else part.cropped(length)

    def get_seq_length(self) -> int:
        """Text tokens in the cache, under transformers' name for it."""
        return self.text_length

    def __len__(self) -> int:
        return self.num_layers

    @property
    def nbytes(self) -> int:
        """Bytes the keys and values take, room for growth included."""
        held = [part for pair in self._image if pair is not None for part in pair]
        held += [part for text in self._text if text is not None for part in text.buffers]
        return sum(
            int(part.size) * (array_namespace(part).finfo(part.dtype).bits // 8) for part in held
        )

    def set_image(self, layer: int, key: Array, value: Array) -> None:
        """Store a layer's keys and values of the image tokens, (B', H, N, D/H) each.

        Raises
        ------
        ValueError
            The layer has them already.
        """
        if self._image[layer] is not None:
            raise ValueError(
                f"layer {layer} of the cache already holds an image; make a new KeyValueCache."
            )
        self._image[layer] = (key, value)

    def append_text(self, layer: int, key: Array, value: Array) -> tuple[list[Array], list[Array]]:
        """Append text keys and values (B, H, Q, D/H); return all segments to attend to."""
        text = self._text[layer]
        if text is None:
            text = self._text[layer] = _Growing(key, value)
        else:
            text.append(key, value)
        text_key, text_value = text.in_use()
        image = self._image[layer]
        if image is None:
            return [text_key], [text_value]
        return [image[0], text_key], [image[1], text_value]

    def text_mask(self, new: Array | None, batch: int, length: int) -> Array | None:
        """Join the padding mask of the text so far with that of the new tokens.

        Parameters
        ----------
        new : array (B, length) or (B, text_length + length), or None
            1 for text, 0 for padding; None means no padding among the new tokens.
        batch, length : int
            Rows and new tokens of this call.

        Returns
        -------
        array (B, text_length + length), or None where nothing is padding
        """
        past, old = self.text_length, self._text_mask
        if new is not None and new.shape[1] == past + length:
            self._text_mask = new  # the caller's covers all the text
        elif new is not None:
            old = filled((batch, past), 1, like=new) if old is None else old
            self._text_mask = array_namespace(new).concat([old, new], axis=1)
        elif old is not None:
            new = filled((batch, length), 1, like=old)
            self._text_mask = array_namespace(old).concat([old, new], axis=1)
        return self._text_mask


class _Growing:
    """Text keys and values of one layer in buffers with room to grow, doubled when full."""

    def __init__(self, key: Array, value: Array) -> None:
        self.buffers = (key, value)
        self.length = int(key.shape[2])

    @property
    def batch_size(self) -> int:
        return int(self.buffers[0].shape[0])

    def append(self, key: Array, value: Array) -> None:
        stop = self.length + int(key.shape[2])
        if stop > self.buffers[0].shape[2]:
            self.buffers = (
                self._wider(self.buffers[0], 2 * stop),
                self._wider(self.buffers[1], 2 * stop),
            )
        old_key, old_value = self.buffers
        self.buffers = write(old_key, self.length, key), write(old_value, self.length, value)
        self.length = stop

    def _wider(self, old: Array, capacity: int) -> Array:
        b, h, _, d = old.shape
        room = filled((b, h, capacity - self.length, d), 0, like=old)
        return array_namespace(old).concat([old[:, :, : self.length, :], room], axis=2)

    def copy(self) -> _Growing:
        key, value = self.in_use()
        xp = array_namespace(key)
        return _Growing(xp.asarray(key, copy=True), xp.asarray(value, copy=True))

    def selected(self, rows: Array) -> _Growing:
        """Rows by index, with the same room to grow."""
        xp = array_namespace(self.buffers[0])
        key, value = (xp.take(buffer, rows, axis=0) for buffer in self.buffers)
        other = _Growing(key, value)
        other.length = self.length
        return other

    def cropped(self, length: int) -> _Growing:
        """A copy of which less is in use, so that what is appended to it changes nothing here."""
        xp = array_namespace(self.buffers[0])
        key, value = (xp.asarray(buffer, copy=True) for buffer in self.buffers)
        other = _Growing(key, value)
        other.length = length
        return other

    def in_use(self) -> tuple[Array, Array]:
        """The part in use, as views (B, H, T, D/H)."""
        key, value = self.buffers
        return key[:, :, : self.length, :], value[:, :, : self.length, :]
