"""The explorer: what the model does with one image, word by word.

    explanation = explain(model, processor, image)
    explanation.save("report.html")

`explanation.py` says what is recorded, `recording.py` records it in one pass,
`attention_rollout.py` follows attention through the layers; `page.py` and `text.py` show it in a
browser and in a terminal.
"""

from refgit.explain.attention_rollout import rollout as rollout
from refgit.explain.explanation import ExplainError as ExplainError
from refgit.explain.explanation import Explanation as Explanation
from refgit.explain.record import explain as explain
from refgit.explain.record import explain_pixels as explain_pixels
