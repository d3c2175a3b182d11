"""What a project says in `[tool.resilient-agents.scan]` of the nearest `pyproject.toml`, and which versions it uses."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resilient_agents.scan.rules import RULES
from resilient_agents.scan.versions import pins, version_files

__all__ = ["Projects", "Settings"]

KEYS = ("select", "ignore", "libraries")


@dataclass(frozen=True, slots=True)
class Settings:
    select: tuple[str, ...] = ()
    """Rules that are on beside those that are on by default."""
    ignore: tuple[str, ...] = ()
    """Rules that are off."""
    libraries: Mapping[str, Any] = field(default_factory=dict)


class Projects:
    """Settings and versions by folder; each file is read once. What is wrong with one is kept in `problems`."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._settings: dict[Path, Settings] = {}
        self._pins: dict[Path, list[dict[str, str]]] = {}

    def settings(self, folder: Path) -> Settings:
        """Those of the nearest `pyproject.toml` at or above the folder."""
        known = self._settings.get(folder)
        if known is None:
            file = folder / "pyproject.toml"
            if file.is_file():
                known = self._read(file)
            elif folder == folder.parent or (folder / ".git").exists():
                known = Settings()
            else:
                known = self.settings(folder.parent)
            self._settings[folder] = known
        return known

    def _read(self, file: Path) -> Settings:
        try:
            data = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            self.problems.append(f"{file}: not used: {error}")
            return Settings()
        said: Any = data
        for key in ("tool", "resilient-agents", "scan"):
            said = said.get(key, {})
            if not isinstance(said, dict):
                self.problems.append(f"{file}: {key} must be a table, got {said!r}")
                return Settings()
        for key in said:
            if key not in KEYS:
                self.problems.append(f"{file}: there is no {key!r}; known are {', '.join(KEYS)}")
        select, ignore, libraries = said.get("select", []), said.get("ignore", []), said.get("libraries", {})
        for key, value in (("select", select), ("ignore", ignore)):
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                self.problems.append(f"{file}: {key} must be a list of rules, got {value!r}")
                return Settings()
            unknown = [rule for rule in value if rule not in RULES]
            self.problems += [f"{file}: there is no rule {rule!r}; known are {', '.join(RULES)}" for rule in unknown]
        if not isinstance(libraries, dict):
            self.problems.append(f"{file}: libraries must be a table, got {libraries!r}")
            libraries = {}
        return Settings(tuple(select), tuple(ignore), libraries)

    def sources(self, folders: Iterable[Path]) -> list[Path]:
        """The files that settings and versions come from, for files in these folders."""
        above = {each for folder in folders for each in (folder, *folder.parents)}
        return sorted(file for folder in above for file in version_files(folder))

    def pin(self, folder: Path, package: str) -> str:
        """The versions that the nearest folder with a word about the package admits; "" for any."""
        return next((said[package] for said in self._versions(folder) if package in said), "")

    def _versions(self, folder: Path) -> list[dict[str, str]]:
        """What the folder says and those above it, the nearest first, up to the root of the repository."""
        known = self._pins.get(folder)
        if known is None:
            ends = folder == folder.parent or (folder / ".git").exists()
            above = [] if ends else self._versions(folder.parent)
            known = self._pins[folder] = [said for said in (pins(folder),) if said] + above
        return known
