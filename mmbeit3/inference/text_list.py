"""Lists of texts that a user writes: queries, names of classes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from mmbeit3.utils import InputError
from mmbeit3.utils.similar_paths import describe_similar
from mmbeit3.utils.text_files import read_text


def read_texts(path: str | Path, argument: str) -> list[str]:
    """Read a list of texts.

    Args:
        path (str | Path): A text file with one text a line, in which empty lines do not count, or a
            ``.json`` file with a list of texts.
        argument (str): The option that names it, for messages.

    Returns:
        list[str]: The texts, without white space at their ends.

    Raises:
        InputError: The file is absent, unreadable, holds no text, or one of them twice.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"there is no file {path}; expected a text file with one text a line"
            f"{describe_similar(str(path))}",
            argument,
        )
    try:
        content = read_text(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}", argument) from error
    texts = _json_texts(path, content, argument) if path.suffix == ".json" else content.splitlines()
    texts = [text.strip() for text in texts if text.strip()]
    if not texts:
        raise InputError(f"{path} holds no text; expected one a line", argument)
    [(text, number)] = Counter(texts).most_common(1)
    if number > 1:
        raise InputError(f"{path} holds {text!r} {number} times; expected each text once", argument)
    return texts


def _json_texts(path: Path, content: str, argument: str) -> list[str]:
    expected = 'expected a list of texts, ["a dog on a lawn", ...]'
    try:
        texts = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}; {expected}", argument) from error
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{path} holds something else; {expected}", argument)
    return texts
