"""Credentials that Donjon uses: how old they are, what is wrong with them, and changing them safely."""
