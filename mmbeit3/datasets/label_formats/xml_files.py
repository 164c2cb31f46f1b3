"""XML of strangers: read without document types and entities, in the encoding that it names."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from mmbeit3.utils import InputError
from mmbeit3.utils.regular_files import check_regular
from mmbeit3.utils.text_files import HEAD, find_encoding, not_text

DECLARED = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.-]{1,40})[\"']")
NO_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


def read_xml(path: Path) -> Element:
    """Read an XML file.

    Raises:
        InputError: It is no XML, or declares a document type: entities of a few lines may unpack to
            all of the memory, or name other files.
    """
    check_regular(path)
    content = path.read_bytes()
    encoding = find_encoding(content[:HEAD])
    declared = DECLARED.match(content)
    if (
        declared
        and encoding == "utf-8"
        and not declared[1].lower().startswith((b"utf-16", b"utf-32"))
    ):
        encoding = declared[1].decode()
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        raise InputError(f"{path} {not_text(encoding, error)}") from error
    except LookupError as error:
        raise InputError(f"{path} names the encoding {encoding!r}: save it in UTF-8") from error
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(
            f"{path} declares a document type (<!DOCTYPE), which label files need not have and "
            "which may hold entities without end: remove it"
        )
    try:
        return ElementTree.fromstring(text)  # noqa: S314 - without a document type
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path} is no XML: {error}. Was it copied in full?") from error


def add(parent: Element, tag: str, text: object | None = None, /, **attributes: object) -> Element:
    """Add an element with text and attributes."""
    values = {key: _allowed(value) for key, value in attributes.items()}
    element = ElementTree.SubElement(parent, tag, values)
    element.text = None if text is None else _allowed(text)
    return element


def _allowed(value: object) -> str:
    text = str(value)
    if found := NO_XML.search(text):
        raise InputError(f"{text!r} has the character {found[0]!r}, which XML cannot hold: rename")
    return text


def xml_text(root: Element) -> str:
    """The content of an XML file."""
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, "unicode")}\n'
