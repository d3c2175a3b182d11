"""What the table says, held against the oldest and the newest version of each library that it speaks of.

`python -m tests.scan.libraries [oldest|newest …]` makes an environment for each, which is thrown away afterwards, and
runs `test_knowledge.py` in it. Left out are libraries that bring a gigabyte with them (sentence-transformers, whisper,
litellm) or are compiled where they are installed (llama-cpp-python, mysqlclient), etcd3, whose generated code no
protobuf of today reads, and anyio, which our own metadata pins.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

__all__ = ["OLDEST"]

OLDEST: dict[str, str] = tomllib.loads(Path(__file__).with_name("oldest.toml").read_text(encoding="utf-8"))
"""By distribution; what comes after is what the table is about."""
TEST = Path(__file__).with_name("test_knowledge.py")


def _main(arguments: list[str]) -> int:
    failed = 0
    for which in arguments or ["oldest", "newest"]:
        wanted = [f"{name}=={version}" if which == "oldest" else name for name, version in OLDEST.items()]
        with tempfile.TemporaryDirectory() as folder:
            python = str(Path(folder, "bin", "python"))
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            subprocess.run([*install, "-e", f"{TEST.parents[2]}[scan]", "pytest"], check=True)
            for each in wanted:  # one at a time: libraries disagree about what they need
                if subprocess.run([*install, "--upgrade", each], check=False).returncode:
                    sys.stdout.write(f"{each} could not be installed\n")
            command = [
                python,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "--noconftest",
                "-o",
                "addopts=",
                "-W",
                "ignore",
                str(TEST),
            ]
            sys.stdout.write(f"{which}:\n")
            sys.stdout.flush()
            failed |= subprocess.run(command, check=False, cwd=TEST.parents[2]).returncode
    return failed


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
