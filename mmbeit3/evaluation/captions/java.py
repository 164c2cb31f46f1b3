"""The official tokenizer and METEOR, programs in Java that come with pycocoevalcap."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from mmbeit3.evaluation.captions.tokenization import PUNCTUATION
from mmbeit3.utils import InputError

TOKENIZER = Path("tokenizer") / "stanford-corenlp-3.4.1.jar"
METEOR = Path("meteor") / "meteor-1.5.jar"
MEMORY = "-Xmx2G"
# Java 18 and newer write UTF-8 only where the second option says so, older ones by the first.
UTF8 = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8")


def check_java() -> None:
    """Make sure that Java and the programs are there.

    Raises:
        InputError: They are not; it says how to install them.
    """
    if shutil.which("java") is None:
        raise InputError(
            "there is no Java on this machine: install OpenJDK (apt-get install "
            "openjdk-17-jre-headless, or conda install openjdk), or leave it out for the "
            "tokenizer in Python",
            "java",
        )
    _find(TOKENIZER)
    _find(METEOR)


def tokenize_by_java(captions: Sequence[str]) -> list[str]:
    """Split captions into words by the PTB tokenizer, and leave out punctuation.

    Args:
        captions: The captions.

    Returns:
        The words of each in lower case, with single blanks between.
    """
    text = "\n".join(" ".join(caption.splitlines()) for caption in captions)
    program = ("-cp", str(_find(TOKENIZER)), "edu.stanford.nlp.process.PTBTokenizer")
    command = ["java", *UTF8, *program, "-preserveLines", "-lowerCase"]
    done = subprocess.run(command, input=text.encode(), capture_output=True)
    lines = done.stdout.decode(errors="replace").split("\n")
    if done.returncode or len(lines) < len(captions):
        raise _failure("tokenizer", done.stderr)
    return [
        " ".join(word for word in line.rstrip().split(" ") if word not in PUNCTUATION)
        for line in lines[: len(captions)]
    ]


def meteor(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """METEOR 1.5 of all images together.

    Args:
        candidates: The caption of each image, its words separated by single blanks.
        references: The references of each image.
    """
    program = _find(METEOR)
    command = ["java", *UTF8, MEMORY, "-jar", program.name, "-", "-", "-stdio", "-l", "en", "-norm"]
    process = subprocess.Popen(
        command,
        cwd=program.parent,  # where it looks for its tables
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        bufsize=1,
    )
    questions, answers = process.stdin, process.stdout
    assert questions is not None and answers is not None
    try:
        statistics = []
        for candidate, texts in zip(candidates, references, strict=True):
            parts = (part.replace("|||", "").replace("  ", " ") for part in (*texts, candidate))
            questions.write(" ||| ".join(("SCORE", *parts)) + "\n")
            statistics.append(answers.readline().strip())
        questions.write(" ||| ".join(("EVAL", *statistics)) + "\n")
        scores = [float(answers.readline()) for _ in range(len(statistics) + 1)]
    except (OSError, ValueError) as error:
        raise _failure("METEOR", b"") from error
    finally:
        process.kill()  # it would wait for more
        with suppress(OSError):
            process.communicate()
    return scores[-1]


def _find(program: Path) -> Path:
    """Where a program of pycocoevalcap is, without importing the package."""
    spec = find_spec("pycocoevalcap")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / program).is_file():
            return path
    raise InputError(
        f"{program.name}, which pycocoevalcap brings, is not installed: pip install "
        "pycocoevalcap==1.2 (100 MB), or leave Java out for the tokenizer in Python",
        "java",
    )


def _failure(name: str, output: bytes) -> InputError:
    lines = output.decode(errors="replace").strip().splitlines()
    said = f": {lines[-1]}" if lines else ""
    return InputError(
        f"the {name} in Java ended without results{said}: does `java "
        f"-version` work, and are 2 GB of memory free for METEOR?",
        "java",
    )
