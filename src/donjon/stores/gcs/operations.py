"""What is asked of Google Cloud Storage, and the permissions of IAM that each request takes.

Source: https://docs.cloud.google.com/storage/docs/access-control/iam-json
"""

from __future__ import annotations

from donjon.core.operations import Operation

PUT = Operation("upload_from_file", "create", ("storage.objects.create",))
PUT_LOCKED = Operation(
    "upload_from_file", "create and lock", ("storage.objects.create", "storage.objects.setRetention")
)
GET = Operation("download_to_file", "read", ("storage.objects.get",))
HEAD = Operation("reload", "look at", ("storage.objects.get",))
LIST = Operation("list_blobs", "list", ("storage.objects.list",), of_bucket=True)
EXTEND = Operation("patch", "extend the lock of", ("storage.objects.setRetention", "storage.objects.update"))
DELETE = Operation("delete", "delete", ("storage.objects.delete",))
#: Answers with the time of the provider, whatever else it says.
ASK_TIME = Operation("reload", "ask the time of", (), ("storage.buckets.get",), of_bucket=True)
LOOK = Operation("reload", "look at the bucket of", ("storage.buckets.get",), of_bucket=True)
MAKE_BUCKET = Operation(
    "create",
    "make the bucket of",
    (
        "storage.buckets.create",
        "storage.buckets.enableObjectRetention",
        "storage.buckets.get",
        "storage.buckets.update",
    ),
    of_bucket=True,
)

#: What each method of the store takes, for roles and their policies.
PERMISSIONS: dict[str, tuple[Operation, ...]] = {
    "put": (PUT,),
    "put locked": (PUT_LOCKED,),
    "get": (GET,),
    "get version": (GET,),
    "head": (HEAD,),
    "head version": (HEAD,),
    "list": (LIST,),
    "extend": (EXTEND,),
    "delete_expired": (DELETE,),
    "now": (ASK_TIME,),
    "tell missing": (LIST,),
    "lock_enforcement": (LOOK,),
    "check_bucket": (LOOK,),
    "make_bucket": (MAKE_BUCKET,),
}
