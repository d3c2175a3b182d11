"""A file as text and as a Form, whatever is wrong with it."""

from __future__ import annotations

import ast
import io
import os
import stat
import tokenize
from codecs import BOM_UTF8
from pathlib import Path

from resilient_agents.scan.form import Form, Scope
from resilient_agents.scan.quotes import requoted
from resilient_agents.scan.read import read
from resilient_agents.scan.records import FileStatus
from resilient_agents.scan.repair import repair

__all__ = ["LARGEST", "decode", "form_of", "load"]

LARGEST = 4_000_000
"""Bytes of a file that is still read."""


class Unreadable(Exception):
    """Why a file cannot be read."""


def load(path: str | Path) -> bytes:
    """The content of a file; raises Unreadable."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # to open a pipe waits for a writer
            raise Unreadable("not a file that can be read")
        if status.st_size > LARGEST:
            raise Unreadable(f"larger than {LARGEST // 1_000_000} MB")
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error


def decode(content: bytes) -> tuple[str, bool]:
    """(text, whether all of it could be decoded as the file itself says). Raises Unreadable for what is no text."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace"), False
    try:
        encoding = "utf-8"
        if any(b"coding" in line for line in content.split(b"\n", 2)[:2]) or content[:3] == BOM_UTF8:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text, whole = content.decode(encoding), True
    except (SyntaxError, ValueError, LookupError):
        text, whole = content.decode("utf-8", "replace"), False
    if "\0" in text:
        if text.count("\0") * 20 > len(text):
            raise Unreadable("not text")
        text, whole = text.replace("\0", " "), False
    return text.replace("\r\n", "\n").replace("\r", "\n"), whole


def form_of(path: str, content: bytes) -> tuple[Form, FileStatus]:
    """The form of a file, empty for one that is unreadable, and what became of it. Never fails."""
    try:
        text, whole = decode(content)
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            tree, whole = repair(requoted(text)), False
        return read(tree, text), FileStatus(path, "read" if whole else "repaired")
    except Unreadable as error:
        return unreadable(path, str(error))
    except (RecursionError, MemoryError):
        return unreadable(path, "nested too deeply")


def unreadable(path: str, reason: str) -> tuple[Form, FileStatus]:
    return Form([Scope("module", "", -1)]), FileStatus(path, "unreadable", reason)
