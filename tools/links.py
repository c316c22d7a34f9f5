"""Check that every relative link and anchor in the Markdown documents leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    """All Markdown files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(path for path in (ROOT / line for line in listed.splitlines()) if path.exists())


def anchors(text: str) -> set[str]:
    """The anchors that the headings of a document get, by the rules that forges share."""
    found = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.strip().replace(" ", "-"))
    return found


def broken_links(document: Path) -> list[str]:
    """The links of one document that lead nowhere, each as one line for people."""
    problems = []
    for link in _LINK.findall(_FENCE.sub("", document.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):  # elsewhere on the network: not checked
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        where = os.path.relpath(document, ROOT)
        if not target.exists():
            problems.append(f"{where}: {link}: no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
            problems.append(f"{where}: {link}: no such heading")
    return problems


def main() -> int:
    """Print the broken links; the exit code tells whether there were any."""
    checked = documents()
    problems = [problem for document in checked for problem in broken_links(document)]
    print("\n".join([*problems, f"{len(checked)} documents, {len(problems)} broken links"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
