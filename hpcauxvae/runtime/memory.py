"""Memory that was not there, in words. Imports nothing heavy."""

import errno

from hpcauxvae.types import InputError

_WORDS = ("allocate memory", "not enough memory", "out of memory", "bad allocation", "bad_alloc", "memory allocation")
"""In the messages of torch, HDF5 and safetensors, which have no exception of their own for the memory of the CPU."""
_ADVICE = {
    "train": "a lower --batch-size, a higher --accumulate, --in-memory no or a smaller --network",
    "evaluate": "--no-control",
    "encode": "--no-image-scores",
    "generate": "fewer images in a --sweep",
    "sensitivity": "a lower --samples",
}
"""For each command, with what it needs less."""
_advice: list[str] = []


def advise_on(command: str) -> None:
    """From now on the words of `memory_fault` name what to lower in this command."""
    _advice[:] = [_ADVICE[command]] if command in _ADVICE else []


def memory_fault(error: BaseException) -> str | None:
    """One line, where memory ran out, by this error or by the one that an InputError was made of; else None."""
    cause = error
    while isinstance(cause, InputError) and cause.__cause__ is not None:
        cause = cause.__cause__
    known = isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"
    known |= isinstance(cause, OSError) and cause.errno == errno.ENOMEM
    in_words = isinstance(cause, OSError | RuntimeError) or type(cause).__name__ == "SafetensorError"
    if not known and not (in_words and any(word in str(cause).lower() for word in _WORDS)):
        return None
    said = str(error).splitlines()[0].strip() if str(error) else "an allocation failed"
    return f"out of memory ({said})" + "".join(f"; less is needed with {advice}" for advice in _advice)
