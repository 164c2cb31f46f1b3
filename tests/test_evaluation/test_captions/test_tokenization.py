"""Words of captions: what Stanford's PTB tokenizer makes of the same texts."""

from __future__ import annotations

import pytest

from mmbeit3.evaluation.captions.tokenization import tokenize

# What edu.stanford.nlp.process.PTBTokenizer of CoreNLP 3.4.1 gives with -preserveLines and
# -lowerCase, less the punctuation that pycocoevalcap takes out; test_java.py asks it.
WORDS = {
    "A man's dog can't run; he doesn't, won't, isn't it?": (
        "a man 's dog ca n't run he does n't wo n't is n't it"
    ),
    "Cannot gonna wanna gotta lemme 'tis y'all ain't": (
        "can not gon na wan na got ta lem me 't is y' all ai n't"
    ),
    "A \"quoted\" word and 'single' quotes": "a quoted word and single quotes",
    "Parens (like this) and [brackets]": "parens -lrb- like this -rrb- and -lsb- brackets -rsb-",
    "U.S. flag at 3:30 p.m. on Main St.": "u.s. flag at 3:30 p.m. on main st.",
    "Dr. Smith went to St. Louis with Jr.": "dr. smith went to st. louis with jr.",
    "1,000 people, 3.5 inches $5.00 50% #25 & co @home": (
        "1,000 people 3.5 inches $ 5.00 50 % # 25 & co @home"
    ),
    "A t-shirt; well-known -- two - dashes --- and... ellipsis….": (
        "a t-shirt well-known two dashes and ellipsis"
    ),
    "black/white and/or w/ 1/2": "black/white and/or w / 1/2",
    "café naïve 日本語 “curly” ‘single’ it’s don’t – —": (
        "café naïve 日本語 curly single it 's do n't"
    ),
    "the '90s and 90's 5'6\" 6ft 2x4": "the '90s and 90 's 5 6 6ft 2x4",
    "o'clock rock 'n' roll C++ dogs' bowls": "o'clock rock 'n' roll c++ dogs bowls",
    "getting ready to bat.,": "getting ready to bat.",
    "a dog.A cat,a bird wow!? man.2": "a dog.a cat a bird wow !? man .2",
    "www.foo.com/a?b, me@foo.com now": "www.foo.com/a?b me@foo.com now",
    "a bag of no. 5 at no.": "a bag of no. 5 at no",
    "  two\tblanks \n here ": "two blanks here",
    "...": "",
    "": "",
}


@pytest.mark.parametrize("caption", WORDS, ids=range(len(WORDS)))
def test_words_are_those_of_the_official_tokenizer(caption: str) -> None:
    assert tokenize(caption) == WORDS[caption]


def test_long_captions_take_no_time() -> None:
    assert tokenize("a.b" * 5000) and tokenize("x@" * 5000) and tokenize("--" * 5000) == ""
