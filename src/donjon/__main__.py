"""`python -m donjon`."""

from __future__ import annotations

from donjon.cli.main import main

if __name__ == "__main__":
    main()
