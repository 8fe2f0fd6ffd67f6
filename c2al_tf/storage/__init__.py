"""Places in object stores, `s3://bucket/key`: where a path is taken, such a URL is.

Each URL has one path on this machine, a copy, by which all other code knows it. What is read is fetched first, ahead of
its turn; what appears under its name in the copy is put into the store at once; what fails names the URL.
"""

from .copies import (
    UPLOADING as UPLOADING,
    delete as delete,
    drop_copies as drop_copies,
    drop_copy as drop_copy,
    exclusive as exclusive,
    folders_in as folders_in,
    is_there as is_there,
    opened as opened,
    pull as pull,
    put as put,
)
from .inputs import (
    Listing as Listing,
    fetched as fetched,
    footer as footer,
    have_room as have_room,
    stat_of as stat_of,
    will_read as will_read,
)
from .objects import PARTIAL as PARTIAL, StorageError as StorageError
from .places import (
    is_input as is_input,
    is_kept as is_kept,
    is_url as is_url,
    local_path as local_path,
    of_shown as of_shown,
    shown as shown,
    with_urls as with_urls,
)
