"""When the frames of a video are shown, and which of them are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refgit.processing.video.decoding.packets import NEVER, Packets
from refgit.processing.video.opening import VideoFileError
from refgit.processing.video.sampling import Random, Sampling, sample_frame_indices
from refgit.validation import expect, is_integer, is_number


@dataclass(frozen=True)
class Choice:
    """Which frames are wanted.

    Attributes
    ----------
    frames : int or sequence of int
        How many, chosen by `sampling`; or which, counted from 0 at `start`.
    sampling, rng, frame_sample_rate
        As for `sample_frame_indices`.
    start, end : float, float or None
        Seconds from the first frame between which frames are taken, `end` not included; None: to
        the last frame.

    Raises
    ------
    ValueError
        A value has no meaning.
    """

    frames: int | Sequence[int]
    sampling: Sampling = "even"
    rng: Random = None
    frame_sample_rate: int = 4
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.frames, Sequence):
            sample_frame_indices(2**31, self.frames, self.sampling, 0, self.frame_sample_rate)
        else:
            fits = len(self.frames) > 0 and all(is_integer(n, least=0) for n in self.frames)
            expect("frames", self.frames, fits, "a number of frames, or their numbers from 0")
        start_fits = is_number(self.start) and 0 <= self.start < float("inf")
        expect("start", self.start, start_fits, "seconds from the first frame, at least 0")
        end_fits = self.end is None or (is_number(self.end) and self.end > self.start)
        expect("end", self.end, end_fits, f"None, or seconds after start, {self.start}")

    @property
    def counts(self) -> bool:
        """Whether the frames depend on how many there are."""
        every = not isinstance(self.frames, Sequence)
        return every or self.start > 0 or self.end is not None

    def numbers(self, timeline: Timeline, name: str) -> list[int]:
        """Choose frames of a video.

        Returns
        -------
        list of int
            Numbers of frames, counted from the first of the video.

        Raises
        ------
        VideoFileError
            There are not enough, or the video ends before `start`.
        """
        first, last = timeline.between(self.start, self.end, name)
        count = last - first
        if not isinstance(self.frames, Sequence):
            try:
                found = sample_frame_indices(
                    count, int(self.frames), self.sampling, self.rng, self.frame_sample_rate
                ).tolist()
            except ValueError as error:
                raise VideoFileError(f"{name}: {error}") from error
        else:
            found = [int(number) for number in self.frames]
            if max(found) >= count:
                part = "" if (self.start, self.end) == (0.0, None) else " in the part chosen"
                raise VideoFileError(
                    f"{name} has {count} frames{part}; frame {max(found)} is not among them, as "
                    "they are numbered from 0."
                )
        return [first + number for number in found]


@dataclass(frozen=True)
class Timeline:
    """When each frame of a video is shown.

    Attributes
    ----------
    seconds : float64 array (frames,)
        From the first frame's on, which is 0; ascending.
    duration : float
        Seconds until the last frame goes.
    """

    seconds: NDArray[np.float64]
    duration: float

    @classmethod
    def of_count(cls, count: int) -> Timeline:
        """Return one of frames whose times are not known: a second each."""
        return cls(np.arange(count, dtype=np.float64), float(count))

    def between(self, start: float, end: float | None, name: str) -> tuple[int, int]:
        """Return the first frame that is shown between two times, and the one after the last.

        Where a single frame stands all that time, it is this one.

        Raises
        ------
        VideoFileError
            There is no frame at all, or none as late as `start`.
        """
        count = len(self.seconds)
        if count == 0:
            raise VideoFileError(
                f"{name} has a video stream without frames; expected at least one. Is the file "
                "whole?"
            )
        if start > 0 and start >= self.duration:
            raise VideoFileError(
                f"{name} is {self.duration:.3f} s long; expected a start before that "
                f"(start is {start:g} s)."
            )
        tolerance = 1e-6  # times are written in decimals, and kept as fractions
        first = int(np.searchsorted(self.seconds, start - tolerance))
        last = count if end is None else int(np.searchsorted(self.seconds, end - tolerance))
        if first >= last:
            first = max(int(np.searchsorted(self.seconds, start + tolerance)) - 1, 0)
            last = first + 1
        return first, last


def timeline_of(packets: Packets) -> Timeline:
    """Say when frames are shown, by what the packets say."""
    times = packets.pts if (packets.pts != NEVER).all() else packets.dts
    times = np.sort(times[packets.shown & (times != NEVER)])
    if not len(times):
        return Timeline(np.zeros(int(packets.shown.sum())), 0.0)
    seconds = (times - times[0]) * float(packets.time_base)
    gaps = np.diff(seconds)
    last = packets.last * float(packets.time_base) or (float(np.median(gaps)) if len(gaps) else 0)
    return Timeline(seconds, float(seconds[-1]) + last)
