"""Memory that was not there, in words. Imports nothing heavy."""

import errno

_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "bad allocation", "bad_alloc")
"""In the messages of torch, which has no exception of its own for the memory of the CPU."""


def memory_fault(error: BaseException) -> str | None:
    """One line that names what to lower, where an error says that memory ran out; None for any other error."""
    text = str(error)
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    known |= isinstance(error, OSError) and error.errno == errno.ENOMEM
    if not known and not (isinstance(error, RuntimeError) and any(word in text for word in _WORDS)):
        return None
    said = text.splitlines()[0].strip() if text else "an allocation failed"
    return (
        f"out of memory ({said}); training needs less with a lower --batch-size, a higher --accumulate, --in-memory no "
        "or a smaller --network; evaluate with a lower --images"
    )
