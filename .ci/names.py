"""A lint: names that do not say what they hold. Prints each place and exits 1; part of `make lint`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

BANNED = frozenset({"found", "told", "said", "one", "words", "turns"})


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name that a module gives to something, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name


def main() -> int:
    """Check every Python file that git tracks."""
    tracked = ["git", "ls-files", "*.py"]
    files = subprocess.run(tracked, capture_output=True, text=True, check=True).stdout.split()  # noqa: S603 # git itself
    banned = [
        f"{file}:{line}: `{name}` does not say what it holds: name the thing (rows, answer, event, …)"
        for file in files
        if Path(file).exists()
        for line, name in names(ast.parse(Path(file).read_text()))
        if name in BANNED
    ]
    sys.stdout.writelines(f"{line}\n" for line in banned)
    return bool(banned)


if __name__ == "__main__":
    sys.exit(main())
