r"""The files of a job: a kill loses none of its rows, and a resumed or grown job repeats none.

A job that writes OUT has up to four files:

- OUT.job says what the job is, in a line of JSON: its model, its options, its inputs. Where they
  changed in a way that goes on, there are several lines, and the last whole one counts. It stays,
  and carries the lock of the running process.
- OUT.partial takes the rows, a line of JSON each, as they come (`ledger`). It is there while rows
  are missing.
- OUT has all rows, in the order of the images. It is made from OUT.partial at the end of each
  round, by writing OUT.writing and renaming that.
- Formats without room for failures have these in a file of their own, made in the same way.

Invariants, whenever the process is killed:

1. OUT.partial is whole rows, and at most a part of one, which is cut off on opening.
2. It is only ever appended to, by the one process that holds the lock on OUT.job; the system gives
   the lock back when that process ends, however it ends.
3. A file called OUT is at every moment the whole result of a round, or was there before the job,
   which then does not start.
4. Every row of OUT is in OUT.partial before OUT is replaced, but for those that --drop-missing
   leaves out. So what is known is the union of both, the later row of an image counts, and ending
   a round a second time changes nothing.
5. OUT.job is written before the first row, and a job goes on only with the same model and options.

The result is a function of the inputs' order and of what is known of each image, so a job that was
killed, or whose folder has grown, ends with the file of one that was run in one go.

A kill loses no row that was written. A power failure loses at most those since the last fsync,
which is called after each batch that ends `ledger.SYNC` seconds or more after the call before.
"""
