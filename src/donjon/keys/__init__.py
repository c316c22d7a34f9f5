"""What opens a vault: the recovery kit and the passphrase."""
