"""A store in a bucket of Amazon S3 or of any server that speaks its protocol.

``address`` says where, ``operations`` what is asked and which permission it takes, ``client`` asks,
``errors`` turns refusals into ours, ``store`` keeps the objects, ``bucket`` looks at the bucket itself, and
``batch`` writes down work for S3's own jobs.
"""

from donjon.stores.s3.address import S3Address
from donjon.stores.s3.store import S3Store

__all__ = ["S3Address", "S3Store"]
