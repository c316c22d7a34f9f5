"""Who can open a vault: its keyring, changing and checking it, and the shares of a recovery kit."""
