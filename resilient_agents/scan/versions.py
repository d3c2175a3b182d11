"""Which version of a library a project uses, and what that says about a default."""

from __future__ import annotations

import functools
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from resilient_agents.scan.libraries import Default
from resilient_agents.scan.plain_data import inside, texts

__all__ = ["admitted", "choose", "normal", "pins", "version_files"]

LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock")


@functools.cache
def normal(name: str) -> str:
    """The name of a distribution as packages are compared by."""
    return re.sub(r"[-_.]+", "-", name).lower()


def version_files(folder: Path) -> list[Path]:
    """The files of one folder that say something about versions."""
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except OSError:
        return []
    found = [folder / name for name in (*LOCKS, "pyproject.toml") if name in names]
    found += [folder / name for name in sorted(names) if name.startswith("requirements") and name.endswith(".txt")]
    if "requirements" in names:
        found += sorted((folder / "requirements").glob("*.txt"))
    return [file for file in found if file.is_file()]


def pins(folder: Path) -> dict[str, str]:
    """What the files of one folder say about versions, as specifiers by distribution; lock files come first.

    Files that cannot be read say nothing.
    """
    found: dict[str, str] = {}
    declared: list[str] = []
    for file in version_files(folder):
        if file.name in LOCKS:
            for name, version in _locked(file):
                found.setdefault(normal(name), f"=={version}")
        elif file.name == "pyproject.toml":
            declared += _declared(_toml(file))
        else:
            declared += [line.split(" #")[0].split(" --")[0].strip() for line in _text(file).splitlines()]
    for line in declared:
        _require(found, line)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""


def _toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(_text(path))
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _locked(path: Path) -> Iterable[tuple[str, str]]:
    if path.name == "Pipfile.lock":
        try:
            data = json.loads(_text(path))
        except (ValueError, RecursionError):
            return
        for section in ("default", "develop"):
            for name, entry in inside(data, dict, section).items():
                for version in texts([entry.get("version")] if isinstance(entry, dict) else []):
                    if version.startswith("=="):
                        yield name, version.removeprefix("==")
        return
    for entry in inside(_toml(path), list, "package"):
        said = texts([entry.get("name"), entry.get("version")]) if isinstance(entry, dict) else []
        if len(said) == 2:
            yield said[0], said[1]


def _declared(data: Mapping[str, Any]) -> Iterable[str]:
    yield from texts(inside(data, list, "project", "dependencies"))
    optional, groups = inside(data, dict, "project", "optional-dependencies"), inside(data, dict, "dependency-groups")
    for group in (*optional.values(), *groups.values()):
        yield from texts(inside(group, list))
    for name, wanted in inside(data, dict, "tool", "poetry", "dependencies").items():
        version = wanted.get("version", "") if isinstance(wanted, dict) else wanted
        if isinstance(version, str) and name != "python":
            yield f"{name}{_from_poetry(version)}"


def _from_poetry(version: str) -> str:
    """`^1.2` as `>=1.2,<2`, `~1.2` as `>=1.2,<1.3`; a bare version is one."""
    if match := re.fullmatch(r"([\^~])(\d+)(?:\.(\d+))?.*", version):
        sign, major, minor = match[1], int(match[2]), int(match[3] or 0)
        lowest = version[1:]
        if sign == "^":
            return f">={lowest},<{major + 1}" if major else f">={lowest},<0.{minor + 1}"
        return f">={lowest},<{major}.{minor + 1}"
    if version in ("*", ""):
        return ""
    return f"=={version}" if version[0].isdigit() else version


def _require(found: dict[str, str], line: str) -> None:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return
    if requirement.specifier:
        found.setdefault(normal(requirement.name), str(requirement.specifier))


@functools.cache
def choose(default: Default, pin: str) -> tuple[str, bool]:
    """(what ends the call, whether the versions that the pin admits agree); the newest version, if they do not."""
    possible = admitted(default, pin)
    return possible[-1], len(possible) == 1


@functools.cache
def admitted(default: Default, pin: str) -> tuple[str, ...]:
    """What may hold for the versions that the pin admits, the newest last; all there is if it makes no sense."""
    rules = default.by_version
    try:
        ranges = [(SpecifierSet(versions), what) for versions, what in rules]
        pinned = SpecifierSet(pin)
    except InvalidSpecifier:
        return tuple(what for _, what in rules)
    possible: dict[str, None] = {}
    for version in _samples([pin, *(versions for versions, _ in rules)]):
        if pinned.contains(version, prereleases=True):
            what = next((what for versions, what in ranges if versions.contains(version, prereleases=True)), None)
            if what is not None:
                possible.pop(what, None)
                possible[what] = None
    return tuple(possible) or tuple(what for _, what in rules)


def _samples(specifiers: Iterable[str]) -> list[Version]:
    """Versions at, just below and just above those that are named, in order."""
    found = set()
    for specifier in specifiers:
        for text in re.findall(r"\d+(?:\.\d+)*", specifier):
            try:
                version = Version(text)
            except InvalidVersion:
                continue
            release = [*version.release, 0, 0][:3]
            found |= {version, Version(".".join(map(str, [*release, 1])))}
            for place in (2, 1, 0):
                if release[place]:
                    below = [*release[:place], release[place] - 1, *([9999] * (2 - place))]
                    found.add(Version(".".join(map(str, below))))
                    break
    found.add(Version("9999"))
    return sorted(found)
