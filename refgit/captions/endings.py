"""The endings that checkpoints trained on TextCaps invent.

They learned to read what is written in photographs, and go on to read where nothing is written: a
drawing of a dog becomes "a dog with the words dog on it". Each pattern takes such an ending out: up
to where the writing is said to be ("on it"), or up to its closing quotation mark, or else to the
end of the caption.
"""

from __future__ import annotations

_PLACE = (
    r" (?:(?:written|printed|painted) )?(?:on|in|at|across|above|below|under) "
    r"(?:it|them|top|(?:the|its|his|her|their|a|an) [^\W\d_]+)"
    r"(?: of (?:it|them|(?:the|its|his|her|their|a|an) [^\W\d_]+))?"
)
_QUOTED = r'(?:"[^"]*"|“[^”]*”|\'[^\']*\'(?!\w))'
# What is written: in quotation marks, or up to a place, or all the rest.
_WRITTEN = rf",?:? *(?:{_QUOTED}(?:{_PLACE})?|.*?{_PLACE}|.*)"
_THINGS = (
    "words?|letters?|names?|numbers?|text|title|phrase|initials|date|slogan|caption|"
    "license plate(?: number)?"
)
_NOT_READ = r"(?! (?:tags?|plates?|boards?|badges?|pads?|blocks?|openers?)\b)"

INVENTED_ENDINGS: tuple[tuple[str, str], ...] = (
    # pattern, a caption that has it
    (
        rf",? (?:that |which )?(?:and|with|has|have|having|showing|featuring|bearing) the "
        rf"(?:{_THINGS})\b{_NOT_READ}{_WRITTEN}",
        "a red car with the words fast and free on it",
    ),
    (
        rf",? (?:that|which) (?:says?|said|reads?|spells?)\b{_WRITTEN}",
        'a sign that says " stop " on a street',
    ),
    (rf",? (?:saying|reading) {_QUOTED}(?:{_PLACE})?", 'a mug saying "good morning"'),
    (
        rf",? (?:(?:that|which) is )?(?:titled|entitled|labell?ed)\b{_WRITTEN}",
        "a book titled the sea",
    ),
    (
        rf",? (?:(?:that|which) is )?(?:called|named) (?:{_QUOTED}|[^\W\d_]+)",
        "a dog named max on a sofa",
    ),
    (
        rf",? (?:and|with) (?:some )?(?:text|writing|lettering|words|letters|numbers){_PLACE}",
        "a shirt with writing on the front",
    ),
)
