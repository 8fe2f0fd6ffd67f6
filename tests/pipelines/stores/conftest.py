from ...object_store import (
    another_machine as another_machine,
    bucket as bucket,
    network as network,
    s3_server as s3_server,
    upload as upload,
)
