"""Captions of many images, written to a file: a job that may be killed and goes on from there.

A job is a list of images in an order (`sources`), what captions them (a `Captioner`), and the file
that takes the rows (`journal`). `run` joins the three; `ray` is the same work on many machines.
`docs/scale.md` says how jobs are used and what they promise.
"""
