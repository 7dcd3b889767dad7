"""Files that survive a kill: written whole or not at all, locked, hashed; cards and tensors on top of them."""

from evergallery.files.durable import (
    LOOK_SECONDS,
    TEMPORARY_PREFIX,
    ReadOnce,
    copy_hashed,
    give_to_owner,
    holder,
    lock,
    new_directory,
    new_file,
    read_json,
    require_room,
    sha256_of,
    shared_lock,
    sync_directory,
    write_atomic,
    write_json,
)

__all__ = [
    "LOOK_SECONDS",
    "TEMPORARY_PREFIX",
    "ReadOnce",
    "copy_hashed",
    "give_to_owner",
    "holder",
    "lock",
    "new_directory",
    "new_file",
    "read_json",
    "require_room",
    "sha256_of",
    "shared_lock",
    "sync_directory",
    "write_atomic",
    "write_json",
]
