#!/usr/bin/env python3
"""Types the commands of README.md and docs/*.md, as a reader would, in a fresh copy of the repository.

    tools/type_commands.py            the quick ones
    tools/type_commands.py --all      also those marked slow, with $GSGD_DATA where they need data sets

Every line of a block ```sh is a command; one of a block ```sh slow is typed with --all only. In a block ```console lines
after `$ ` are commands, and the lines below must be among what the command prints, in that order, whatever their numbers.
A block ```rust is a program and runs as an example of the library. `gsgd` is the program that was built last. The first
command that fails ends everything with exit status 1.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page):
    """Yields (line number, language and marks, lines) of every fenced block."""
    fence, start, lines = None, 0, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if fence is None and line.startswith("```"):
            fence, start, lines = line[3:].split() or ["text"], number, []
        elif line == "```":
            yield start, fence, lines
            fence = None
        elif fence is not None:
            lines.append(line)


def commands(lines):
    """Yields (offset, command, lines that it must print) of a ```console block."""
    at, command, printed = 0, None, []
    for offset, line in enumerate(lines, 1):
        if line.startswith("$ "):
            if command:
                yield at, command, printed
            at, command, printed = offset, line[2:], []
        else:
            printed.append(line)
    if command:
        yield at, command, printed


def shape(line):
    """A line without its numbers and how it is filled up."""
    return " ".join(re.sub(r"\d+(\.\d+)?(e-?\d+)?", "#", line).replace("-#", "#").split())


def missing(expected, output):
    """The first of these lines that is not in the output behind the one before."""
    left = iter([shape(line) for line in output.splitlines()])
    return next((line for line in expected if shape(line) not in left), None)


class Typist:
    """Runs commands in a copy of the repository."""

    def __init__(self, folder):
        self.copy = folder / "gsgd"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, stdout=subprocess.PIPE
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).exists():
                (self.copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.copy / name, follow_symlinks=False)
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
        installed = folder / "installed"
        path = [str(installed / "bin"), str(target / "release"), os.environ["PATH"]]
        self.environment = os.environ | {
            "CARGO_TARGET_DIR": str(target),
            "CARGO_INSTALL_ROOT": str(installed),
            "PATH": ":".join(path),
        }

    def type(self, place, command, expected=()):
        """Runs a command; ends the program if it fails or does not print what is expected."""
        print(f"{place}: {command}", flush=True)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.copy,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            sys.exit(f"{place}: exit status {done.returncode}\n{done.stdout}")
        if (line := missing(expected, done.stdout)) is not None:
            sys.exit(f"{place}: it does not print `{line}` but\n{done.stdout}")

    def run_program(self, place, lines):
        """Runs a program as an example of the library."""
        name = "typed"
        (self.copy / f"crates/gsgd/examples/{name}.rs").write_text("\n".join(lines) + "\n")
        self.type(place, f"cargo run --release --example {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="also the commands that take long")
    parser.add_argument("pages", nargs="*", type=pathlib.Path, help="only these pages")
    arguments = parser.parse_args()
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        typist = Typist(pathlib.Path(folder))
        for page in [path.resolve() for path in arguments.pages] or PAGES:
            for start, (language, *marks), lines in blocks(page):
                if "slow" in marks and not arguments.all:
                    continue
                place = f"{page.relative_to(ROOT)}:{start}"
                if language == "rust":
                    typist.run_program(place, lines)
                    count += 1
                elif language == "console":
                    for offset, command, expected in commands(lines):
                        typist.type(f"{page.relative_to(ROOT)}:{start + offset}", command, expected)
                        count += 1
                elif language == "sh":
                    for offset, command in enumerate(lines, 1):
                        if command.strip() and not command.startswith("#"):
                            typist.type(f"{page.relative_to(ROOT)}:{start + offset}", command)
                            count += 1
    print(f"{count} commands of README.md and docs/ work")


if __name__ == "__main__":
    main()
