"""Who may sign for a vault: writers, custodians and auditors, and the keys they sign with."""
