"""The cache: keys and values of everything the decoder has read, so that it is read once.

Keys and values are what attention makes of a token for later ones to attend to
(layers/attention.py). Image tokens never attend to text, so their keys and values do not depend on
the text below the image. They are stored once per image; the text's grow with every token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        self._image: dict[int, tuple[Array, Array]] = {}  # by layer, as the text
        self._text: dict[int, _Growing] = {}
        self._text_mask: Array | None = None

    @property
    def image_length(self) -> int:
        """Image tokens N in the cache, 0 without an image."""
        return int(self._image[0][0].shape[2]) if self._image else 0

    @property
    def text_length(self) -> int:
        """Text tokens T in the cache."""
        return self._text[0].length if self._text else 0

    @property
    def batch_size(self) -> int | None:
        """Texts B (batch rows); None before any text."""
        return int(self._text[0].buffers[0].shape[0]) if self._text else None

    @property
    def num_images(self) -> int | None:
        """Images B'; None without an image."""
        return int(self._image[0][0].shape[0]) if self._image else None

    @property
    def head_shape(self) -> tuple[int, int] | None:
        """Heads H and their width D/H; None while nothing is stored."""
        if not (self._image or self._text):
            return None
        key, _ = self._image[0] if self._image else self._text[0].buffers
        return int(key.shape[1]), int(key.shape[3])

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Undo what the block has stored if it raises."""
        image, text, mask = dict(self._image), dict(self._text), self._text_mask
        length = self.text_length
        try:
            yield
        except BaseException:
            self._image, self._text, self._text_mask = image, text, mask
            for part in text.values():
                part.length = length
            raise

    def fork(self) -> KeyValueCache:
        """Return a cache that goes on from here by itself; the images are shared, not copied."""
        other = KeyValueCache(self.num_layers)
        other._image = dict(self._image)
        other._text = {i: part.copy() for i, part in self._text.items()}
        other._text_mask = self._text_mask
        return other

    @classmethod
    def joined(cls, caches: Sequence[KeyValueCache]) -> KeyValueCache:
        """Return one cache of the images of several, which are emptied: (B'_i, H, N, D/H) each.

        A layer after the other is moved, so that little more memory is needed than before.
        """
        whole = cls(caches[0].num_layers)
        for layer in range(whole.num_layers):
            parts = [cache._image.pop(layer) for cache in caches]
            xp = array_namespace(parts[0][0])
            key, value = (xp.concat(part, axis=0) for part in zip(*parts, strict=True))
            whole.set_image(layer, key, value)
        return whole

    def select(self, rows: Array) -> None:
        """Go on with these rows of the text, in this order; some may be left out, others repeated.

        Parameters
        ----------
        rows : int64 array (R,), on the device
            Row r continues what was row rows[r]. Images are not touched; R is a multiple of their
            number, and row r belongs to image r modulo that.
        """
        self._text = {i: part.selected(rows) for i, part in self._text.items()}
        if self._text_mask is not None:
            self._text_mask = array_namespace(rows).take(self._text_mask, rows, axis=0)

    def select_images(self, images: Array) -> None:
        """Keep some of the images, by index; select the rows that belong to them next."""
        xp = array_namespace(images)
        for i, (key, value) in self._image.items():
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
        if length == 0:
            self._text, self._text_mask = {}, None
            return
        self._text = {i: part.cropped(length) for i, part in self._text.items()}
        if self._text_mask is not None:
            self._text_mask = self._text_mask[:, :length]

    def get_seq_length(self) -> int:
        """Text tokens in the cache, under transformers' name for it."""
        return self.text_length

    def __len__(self) -> int:
        return self.num_layers

    @property
    def nbytes(self) -> int:
        """Bytes the keys and values take, room for growth included."""
        pairs = (*self._image.values(), *(text.buffers for text in self._text.values()))
        held = [part for pair in pairs for part in pair]
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
        if layer in self._image:
            raise ValueError(
                f"layer {layer} of the cache already holds an image; make a new KeyValueCache."
            )
        self._image[layer] = (key, value)

    def append_text(self, layer: int, key: Array, value: Array) -> tuple[list[Array], list[Array]]:
        """Append text keys and values (B, H, Q, D/H); return all segments to attend to."""
        if layer in self._text:
            self._text[layer].append(key, value)
        else:
            self._text[layer] = _Growing(key, value)
        text_key, text_value = self._text[layer].in_use()
        if layer not in self._image:
            return [text_key], [text_value]
        image_key, image_value = self._image[layer]
        return [image_key, text_key], [image_value, text_value]

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

    def __init__(self, key: Array, value: Array, length: int | None = None) -> None:
        self.buffers = (key, value)
        self.length = int(key.shape[2]) if length is None else length

    def append(self, key: Array, value: Array) -> None:
        stop = self.length + int(key.shape[2])
        if stop > self.buffers[0].shape[2]:
            xp = array_namespace(key)
            b, h, _, d = key.shape
            room = filled((b, h, 2 * stop - self.length, d), 0, like=key)
            old_key, old_value = self.in_use()
            self.buffers = xp.concat([old_key, room], axis=2), xp.concat([old_value, room], axis=2)
        old_key, old_value = self.buffers
        self.buffers = write(old_key, self.length, key), write(old_value, self.length, value)
        self.length = stop

    def copy(self) -> _Growing:
        key, value = self.in_use()
        xp = array_namespace(key)
        return _Growing(xp.asarray(key, copy=True), xp.asarray(value, copy=True))

    def selected(self, rows: Array) -> _Growing:
        """Rows by index, with the same room to grow."""
        xp = array_namespace(rows)
        key, value = (xp.take(buffer, rows, axis=0) for buffer in self.buffers)
        return _Growing(key, value, self.length)

    def cropped(self, length: int) -> _Growing:
        """A copy of which less is in use, so that what is appended to it changes nothing here."""
        xp = array_namespace(self.buffers[0])
        key, value = (xp.asarray(buffer, copy=True) for buffer in self.buffers)
        return _Growing(key, value, length)

    def in_use(self) -> tuple[Array, Array]:
        """The part in use, as views (B, H, T, D/H)."""
        key, value = self.buffers
        return key[:, :, : self.length, :], value[:, :, : self.length, :]
