"""Rules of checkov that are knowingly not met, with the reason; docs/roles.md has this table."""

from __future__ import annotations

SKIPPED: dict[str, str] = {
    "CKV_AWS_18": "This bucket holds the access log; logging the log would never end.",
    "CKV_AWS_61": "Only sts:AssumeRole is allowed, with an external id or a second factor; which hosts and "
    "people of the named account may ask is for that account to say.",
    "CKV_AWS_144": "Replication can be turned against a vault. donjon copy keeps a second one.",
    "CKV_AWS_145": "Objects are sealed before they leave the host. A KMS key would let its owner take them "
    "away.",
    "CKV2_AWS_61": "Lifecycle rules delete and move. The reaper alone deletes.",
    "CKV2_AWS_62": "Events would go to an account that has no business with the vault.",
    "CKV_AZURE_33": "Nobody uses queues here; the account's keys, which they would take, are switched off.",
    "CKV_AZURE_40": "A key that expires opens nothing any more, and what it sealed is kept for longer.",
    "CKV_AZURE_59": "Hosts come from the named addresses alone; --private-network closes this too.",
    "CKV_AZURE_189": "Hosts come from the named addresses alone; --private-network closes this too.",
    "CKV2_AZURE_1": "Objects are sealed before they leave the host. A key of Key Vault would let its "
    "owner take them away.",
    "CKV2_AZURE_21": "A diagnostic setting logs reads, writes and deletes; the rule knows the older way.",
    "CKV2_AZURE_32": "Hosts come from named addresses alone; --private-network makes private endpoints.",
    "CKV2_AZURE_33": "Hosts come from named addresses alone; --private-network makes private endpoints.",
    "CKV_GCP_62": "This bucket holds the access log; logging the log would never end.",
}
