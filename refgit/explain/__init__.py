"""The explorer: what the model does with one image, word by word.

    explanation = explain(model, processor, image)
    explanation.save("report.html")

`data.py` says what is recorded, `record.py` records it in one pass, `attention_rollout.py` follows
attention through the layers; `html.py` and `text.py` show it in a browser and in a terminal, and an
`Explanation` is the data that shows itself so.
"""

from refgit.explain.attention_rollout import rollout as rollout
from refgit.explain.data import ExplainError as ExplainError
from refgit.explain.explanation import Explanation as Explanation
from refgit.explain.record import explain as explain
from refgit.explain.record import explain_pixels as explain_pixels
