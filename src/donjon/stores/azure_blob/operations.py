"""What is asked of Azure Blob Storage, and the data actions of Azure's roles that each request takes.

To read the container is a control action. Source: "Azure permissions for Storage",
https://learn.microsoft.com/azure/role-based-access-control/permissions/storage, and "Put Blob" for what
creates a blob: ``add`` suffices for a new one, https://learn.microsoft.com/rest/api/storageservices/put-blob
"""

from __future__ import annotations

from donjon.core.operations import Operation

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
ADD = f"{_BLOBS}/add/action"
READ = f"{_BLOBS}/read"
#: Sets, extends and, of Unlocked policies, removes; and it sets and clears legal holds.
IMMUTABLE = f"{_BLOBS}/immutableStorage/runAsSuperUser/action"
#: Makes the current version a previous one.
DELETE_CURRENT = f"{_BLOBS}/delete"
DELETE_VERSION = f"{_BLOBS}/deleteBlobVersion/action"
READ_CONTAINER = "Microsoft.Storage/storageAccounts/blobServices/containers/read"

PUT = Operation("upload_blob", "create", (ADD,))
PUT_LOCKED = Operation("upload_blob", "create and lock", (ADD, IMMUTABLE))
GET = Operation("download_blob", "read", (READ,))
HEAD = Operation("get_blob_properties", "look at", (READ,))
LIST = Operation("list_blobs", "list", (READ,), of_bucket=True)
EXTEND = Operation("set_immutability_policy", "extend the lock of", (IMMUTABLE,))
HIDE = Operation("delete_blob", "make a previous version of", (DELETE_CURRENT,))
DELETE = Operation("delete_blob", "delete", (DELETE_VERSION,))
#: Answers with the time of the provider, whatever else it says.
ASK_TIME = Operation("get_container_properties", "ask the time of", (), (READ_CONTAINER,), of_bucket=True)
LOOK = Operation("get_container_properties", "look at the container of", (READ_CONTAINER,), of_bucket=True)

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
    "delete_expired": (LIST, HIDE, DELETE),
    "now": (ASK_TIME,),
    "tell missing": (LIST,),
    "lock_enforcement": (LOOK,),
    "check_bucket": (LOOK,),
}
