"""What is asked of S3, and the permissions that each request takes.

Source of the permissions: "Actions, resources, and condition keys for Amazon S3" in the Service
Authorization Reference,
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
"""

from __future__ import annotations

from donjon.core.operations import Operation

PUT = Operation("put_object", "create", ("s3:PutObject",))
#: A put that names its lock (https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html).
PUT_LOCKED = Operation("put_object", "create and lock", ("s3:PutObject", "s3:PutObjectRetention"))
GET = Operation("get_object", "read", ("s3:GetObject",))
GET_VERSION = Operation("get_object", "read", ("s3:GetObjectVersion",))
#: Without the optional ones S3 leaves the lock out of the answer.
HEAD = Operation("head_object", "look at", ("s3:GetObject",), ("s3:GetObjectRetention",))
HEAD_VERSION = Operation("head_object", "look at", ("s3:GetObjectVersion",), ("s3:GetObjectRetention",))
LIST = Operation("list_object_versions", "list", ("s3:ListBucketVersions",), of_bucket=True)
EXTEND = Operation("put_object_retention", "extend the lock of", ("s3:PutObjectRetention",))
DELETE = Operation("delete_object", "delete", ("s3:DeleteObjectVersion",))

#: Answers with the time of the provider, whatever else it says.
ASK_TIME = Operation("head_bucket", "ask the time of", (), ("s3:ListBucket",), of_bucket=True)
#: Whether this credential may list decides whether S3 tells "missing" from "forbidden".
MAY_LIST = Operation("head_bucket", "look at", ("s3:ListBucket",), of_bucket=True)

GET_LOCKS = Operation(
    "get_object_lock_configuration",
    "read the Object Lock setting of",
    ("s3:GetBucketObjectLockConfiguration",),
    of_bucket=True,
)
GET_VERSIONING = Operation(
    "get_bucket_versioning", "read the versioning of", ("s3:GetBucketVersioning",), of_bucket=True
)
GET_PUBLIC_ACCESS = Operation(
    "get_public_access_block",
    "read the public access block of",
    ("s3:GetBucketPublicAccessBlock",),
    of_bucket=True,
)
GET_POLICY = Operation("get_bucket_policy", "read the policy of", ("s3:GetBucketPolicy",), of_bucket=True)
CREATE_BUCKET = Operation(
    "create_bucket",
    "create",
    ("s3:CreateBucket", "s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning"),
    of_bucket=True,
)
PUT_LOCKS = Operation(
    "put_object_lock_configuration",
    "set the Object Lock of",
    ("s3:PutBucketObjectLockConfiguration",),
    of_bucket=True,
)
PUT_VERSIONING = Operation(
    "put_bucket_versioning", "set the versioning of", ("s3:PutBucketVersioning",), of_bucket=True
)
PUT_PUBLIC_ACCESS = Operation(
    "put_public_access_block", "block public access to", ("s3:PutBucketPublicAccessBlock",), of_bucket=True
)

#: What each method of the store takes, for roles and their policies. "locked", "version" and the like tell
#: apart what one method does with different arguments; a credential that may list names versions always.
PERMISSIONS: dict[str, tuple[Operation, ...]] = {
    "put": (PUT,),
    "put locked": (PUT_LOCKED,),
    "get": (GET,),
    "get version": (GET_VERSION,),
    "head": (HEAD,),
    "head version": (HEAD_VERSION,),
    "list": (LIST,),
    "extend": (EXTEND,),
    "delete_expired": (HEAD_VERSION, DELETE),
    "now": (ASK_TIME,),
    "tell missing": (MAY_LIST,),
    "lock_enforcement": (GET_LOCKS,),
    "check_bucket": (MAY_LIST, GET_LOCKS, GET_VERSIONING, GET_PUBLIC_ACCESS, GET_POLICY),
    "make_bucket": (MAY_LIST, CREATE_BUCKET, PUT_VERSIONING, PUT_LOCKS, PUT_PUBLIC_ACCESS),
}
