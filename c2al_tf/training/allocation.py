"""What the C library does with the buffers of a training step once they are freed."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory for the next step, in this process, from now on.

    A step on CPUs asks for the same large buffers as the last one. By default glibc gives such buffers back to the
    system, which must then find each of their pages again and fill it with zeros. Resident memory stays near its peak.
    The environment variables `MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_` do the same.

    Returns:
        Whether the C library could be told; another one than glibc could not.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(key, _NEVER) == 1 for key in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD))
