"""Plain functions as machine code: numba compiles them once, and what it made is loaded by llvmlite alone.

To import numba and to load a function from its own cache takes half a second each time. A function over pointers and
integers needs nothing of numba when it runs, so its object code is kept and linked into the process: some milliseconds.
It may call functions of C libraries that other packages bring along (`Foreign`).
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from firedamp.scanner.kept import kept, place

_POINTERS: Final = {"B": "uint8", "I": "int32", "L": "int64"}
"""The letters of arguments that are arrays, and what these hold; `l` is an integer of 64 bits."""
_BESIDE: Final = 2
"""Processes that compile: each takes a hundred megabytes for numba."""

Wanted = tuple[Callable[..., int], str]
"""A function, and what it takes: as `compiled` has it."""


class NoCompilerError(Exception):
    """There is no numba, or it can make nothing of a function that runs without it."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A function of a C library that stands in an extension module: what is compiled calls it by its address.

    One of the system's own library, which every process has, stands in no module.

    Each of what it takes and gives is `i`, an integer of 32 bits, or `l`, one of 64 or an address.
    """

    module: str
    name: str
    takes: str
    gives: str

    def __call__(self, *arguments: int) -> int:
        """Call it as the compiled code does, with the same trust in what is given."""
        given: int = self._function()(*arguments)
        return given

    def address(self) -> int:
        """Return where it stands in this process. Raises NoCompilerError where there is no such module or function."""
        return ctypes.cast(self._function(), ctypes.c_void_p).value or 0

    def _function(self) -> Any:
        try:
            file = importlib.import_module(self.module).__file__ if self.module else None
            function = getattr(ctypes.CDLL(file), self.name)
        except (ImportError, OSError, AttributeError) as error:
            raise NoCompilerError(f"{self.module} has no {self.name}: {error}") from error
        kinds = {"i": ctypes.c_int32, "l": ctypes.c_int64}
        function.argtypes, function.restype = [kinds[letter] for letter in self.takes], kinds[self.gives]
        return function

    def declared(self) -> Any:
        """Return what stands for it in a function that numba compiles."""
        from numba import types

        kinds: dict[str, Any] = {"i": types.int32, "l": types.int64}
        return types.ExternalFunction(self.name, kinds[self.gives](*[kinds[letter] for letter in self.takes]))


@cache
def compiled(function: Callable[..., int], takes: str, folder: Path) -> Callable[..., int]:
    """Return function as machine code, which runs without Python's lock.

    takes has a letter an argument: `B` for an array of bytes, `I` and `L` for one of 32-bit and 64-bit integers, `l`
    for an integer. Arrays lie in one piece, and may be given by their address; nothing checks where function reads and
    writes in them. Raises NoCompilerError.
    """
    content = _content(function, takes)
    from llvmlite import binding as llvm

    _declare(function)
    code = kept(folder, _name(function), content, partial(_object_code, function, takes))
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    # numba's calling convention: where the result goes, where an exception would go, the arguments; 0 is success.
    numbers = [ctypes.c_int64 if letter == "l" else ctypes.c_void_p for letter in takes]
    convention = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *numbers)
    called = convention(engine.get_function_address(function.__name__))

    def call(*arguments: Any) -> int:
        result, exception = ctypes.c_int64(), ctypes.c_void_p()
        given = [one if isinstance(one, int) else one.ctypes.data for one in arguments]
        if called(ctypes.addressof(result), ctypes.addressof(exception), *given):
            raise RuntimeError(f"{function.__name__} raised what nothing was compiled for")
        return result.value

    return call


def prepare(wanted: Sequence[Wanted], folder: Path) -> None:
    """Compile what folder does not have yet, two functions at a time: each takes a second or more.

    Where this process cannot fork, or folder cannot be written, nothing is done. Nor is anything told of what fails:
    each function is compiled, or is no good, when it is asked for.
    """
    with suppress(NoCompilerError, OSError):
        missing = [one for one in wanted if not place(folder, _name(one[0]), _content(*one)).exists()]
        if len(missing) > 1 and sys.platform == "linux" and threading.active_count() == 1:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                _compile_beside(sorted(missing, key=_length, reverse=True), folder)


def _compile_beside(missing: Sequence[Wanted], folder: Path) -> None:
    """Compile functions in processes of ours, unless this one is such a process itself. Raises OSError.

    Neither semaphores nor shared memory: not every container has them.
    """
    import multiprocessing

    if multiprocessing.parent_process() is not None:
        return
    context = multiprocessing.get_context("fork")
    waiting, end = os.pipe()
    os.write(end, bytes(range(len(missing))))
    os.close(end)
    started = []
    try:
        for _ in range(_BESIDE):
            process = context.Process(target=_compile_next, args=(missing, waiting, folder), daemon=True)
            process.start()
            started.append(process)
        for process in started:
            process.join()
    finally:
        for process in started:
            process.terminate()
            process.join()
        os.close(waiting)


def _compile_next(missing: Sequence[Wanted], waiting: int, folder: Path) -> None:
    """Compile what no other process has taken, in a process of ours: it says nothing of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(Exception):
        while number := os.read(waiting, 1):
            function, takes = missing[number[0]]
            kept(folder, _name(function), _content(function, takes), partial(_object_code, function, takes))


def _length(one: Wanted) -> int:
    """Return how much there is to compile."""
    function, _ = one
    return sum(len(each.__code__.co_code) for each in _whole(function))


def _name(function: Callable[..., int]) -> str:
    return f"code-{function.__name__}"


def _content(function: Callable[..., int], takes: str) -> object:
    """Return what the object code of function depends on."""
    try:
        import llvmlite
        from llvmlite import binding as llvm
    except ImportError as error:
        raise NoCompilerError("numba is missing") from error
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    processor = (llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    files = sorted({each.__code__.co_filename for each in _whole(function)})
    return llvmlite.__version__, processor, [Path(path).read_bytes() for path in (*files, __file__)], takes


@cache
def _engine() -> Any:
    """Return what holds all linked code: it lives as long as the process."""
    from llvmlite import binding as llvm

    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _called(function: Callable[..., int]) -> Iterator[tuple[str, FunctionType]]:
    """Yield the functions of ours that a function calls, by the names it has for them."""
    package = function.__module__.partition(".")[0]
    for name in function.__code__.co_names:
        called = function.__globals__.get(name)
        if isinstance(called, FunctionType) and called.__module__.partition(".")[0] == package:
            yield name, called


def _whole(function: Callable[..., int]) -> Iterator[Callable[..., int]]:
    """Yield a function, and those that become a part of it when it is compiled."""
    yield function
    for _, called in _called(function):
        yield from _whole(called)


def _foreign(function: Callable[..., int]) -> set[Foreign]:
    """Return the functions of C libraries that a function and its parts call."""
    used = (each.__globals__.get(name) for each in _whole(function) for name in each.__code__.co_names)
    return {each for each in used if isinstance(each, Foreign)}


def _declare(function: Callable[..., int]) -> None:
    """Tell LLVM where the functions of C libraries stand: to link one that it does not know would end the process."""
    from llvmlite import binding as llvm

    for each in _foreign(function):
        llvm.add_symbol(each.name, each.address())


def _with_parts(function: Callable[..., int]) -> Callable[..., int]:
    """Return function as it is, but that the functions of ours that it calls, and theirs, are compiled too.

    LLVM makes them a part of it: where numba does that itself, it takes twice as long.
    """
    import numba

    njit: Any = numba.njit  # has types, but not those of all its keywords
    part = njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    names = {**function.__globals__}
    for name, called in _called(function):
        names[name] = part(_with_parts(called))
    names |= {name: each.declared() for name, each in names.items() if isinstance(each, Foreign)}
    return FunctionType(function.__code__, names, function.__name__)


def _object_code(function: Callable[..., int], takes: str) -> bytes:
    """Compile function for this processor: object code in which it has its plain name."""
    try:
        import numba
        from numba import types
    except ImportError as error:
        raise NoCompilerError("numba is missing") from error
    from llvmlite import binding as llvm

    _declare(function)
    pointer: Any = types.CPointer
    arguments = [types.int64 if letter == "l" else pointer(getattr(types, _POINTERS[letter])) for letter in takes]
    compiled: Any = numba.cfunc  # has types, but not those of its own keywords
    unit = compiled(types.int64(*arguments), nopython=True)(_with_parts(function))
    module = llvm.parse_assembly(unit.inspect_llvm())
    # What calls from C would tell Python of exceptions: there is no such call, and without it nothing of numba is left.
    # Parts are not called from elsewhere.
    for each in module.functions:
        if each.name == unit.native_name or each.linkage == llvm.Linkage.linkonce_odr:
            each.linkage = "internal"
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_strip_dead_prototype_pass()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, jit=True
    )
    options = llvm.create_pipeline_tuning_options(3)
    options.slp_vectorization = True
    passes.run(module, llvm.create_pass_builder(machine, options))
    (code,) = (each for each in module.functions if not each.is_declaration)
    code.name = function.__name__
    # To link what names something that is not there would end the process.
    known = {each.name for each in _foreign(function)}
    strangers = {each.name for each in module.functions if each.is_declaration} - known
    if any(not name.startswith("llvm.") for name in strangers):
        raise NoCompilerError(f"{function.__name__} cannot run without numba")
    return bytes(machine.emit_object(module))
