"""Words of captions, as the official evaluation has them, without Java."""

from __future__ import annotations

import re

#: What the official evaluation leaves out of what its tokenizer finds.
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"]
    + [".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
# Words whose full stop belongs to them.
TITLES = "mr|mrs|ms|drs?|profs?|sens?|reps?|lt|col|gen|govs?|adm|rev|maj|sgt|capt|ste?|mt|ft"
NAMES = r"ave|blvd|rd|pres|hon|jr|sr|bros|inc|cos?|corp|ltd|dept|assn|univ|etc|vs|al|ph\.d"
MONTHS = "jan|feb|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thurs?|fri"
NUMBERED = "nos?|pp?|figs?|eqs?|secs?"  # of numbers alone

SIGNS = str.maketrans(
    {'"': "''", "“": "``", "”": "''", "‘": "`", "’": "'"}
    | {"–": "--", "—": "--", "…": "...", "€": "$", "£": "#", "¢": " cents"}
    | {"½": "1/2", "¼": "1/4", "¾": "3/4", "\N{NO-BREAK SPACE}": " ", "\N{SOFT HYPHEN}": ""}
)
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
SUFFIX = r"(?:'(?:s|m|d|ll|re|ve)|n't)\b"
TOKEN = re.compile(
    rf"""
      (?:https?://|www\.)\S+?(?=[.,:;!?)]*(?:\s|$)) | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
    | </?[a-z][^<>\s]*>
    | (?:[a-z]\.)+(?![a-z])                         # u.s. and a.m.
    | (?:{TITLES}|{NAMES}|{MONTHS})\.(?!\w) | (?:{NUMBERED})\.(?=\s*\d) | [a-z]+\.(?=[,;:])
    | can(?=not\b) | gon(?=na\b) | wan(?=na\b) | got(?=ta\b) | gim(?=me\b) | lem(?=me\b)
    | {SUFFIX} | y'(?=all\b) | '(?:t(?=is\b)|t(?=was\b)|em\b|cause\b|n'?(?=\s)|\d\ds\b)
    | [-+]?(?:\d+(?:[.,:/-]\d+)*|\.\d+)(?:-?[a-z][\w-]*)?
    | [@\#][a-z]\w* | c(?:\+\+|\#)(?!\w) | o'[a-z]+ | d'[a-z]{{4,}} | ma'am
    | [^\W\d_](?:(?!{SUFFIX})\w|[-/&](?=[^\W_])|\.(?=[^\W\d_]))*
    | \.{{3}} | --+ | `` | '' | [!?]+ | \w+ | \S
    """,
    re.I | re.X,
)


def tokenize(caption: str) -> str:
    """Split a caption into words, nearly as the PTB tokenizer of Stanford CoreNLP 3.4.1 does.

    The official evaluation takes that one, which needs Java. ``can't`` is ``ca n't``, ``man's`` is
    ``man 's``, ``t-shirt``, ``10:30`` and ``st.`` are words, and punctuation is left out.

    Args:
        caption: The caption.

    Returns:
        Its words in lower case, with one space between.
    """
    tokens = TOKEN.findall(caption.translate(SIGNS))
    words = (BRACKETS.get(token, token.lower()) for token in tokens)
    return " ".join(word for word in words if word not in PUNCTUATION and word.strip("-"))
