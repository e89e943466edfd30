"""Machine code is made once, kept for this user alone, and does what the plain function does."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firedamp.scanner import jit


def total(numbers: Any, count: int, doubled: Any) -> int:
    """Add up the numbers, and write each one twice as large."""
    found = 0
    for i in range(count):
        found += numbers[i]
        doubled[i] = 2 * numbers[i]
    return found


absolute = jit.Foreign("_ctypes", "labs", "l", "l")
"""Of the C library, which every extension module is linked to."""


def how_far(number: int, other: int) -> int:
    return absolute(number - other)


def calling_python(count: int) -> int:
    """Need Python to run: it raises."""
    if count > 3:
        raise ValueError
    return count


def twice(number: int) -> int:
    return 2 * number


def one_more_than_twice(number: int) -> int:
    return twice(number) + 1


def test_compiled_code_does_what_the_function_does_and_is_not_compiled_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "code"
    numbers, doubled = np.array([5, -7, 1 << 40]), np.zeros(3, np.uint8)
    assert jit.compiled(total, "LlB", folder)(numbers, 3, doubled) == (1 << 40) - 2
    assert doubled.tolist() == [10, 242, 0]
    [copy] = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600

    jit.compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    assert jit.compiled(total, "LlB", folder)(numbers, 2, doubled) == -2


def test_code_that_is_damaged_or_writable_by_others_is_made_again(tmp_path: Path) -> None:
    numbers, doubled = np.array([3, 4]), np.zeros(2, np.uint8)
    for spoil in (lambda copy: copy.write_bytes(copy.read_bytes()[:-9]), lambda copy: copy.chmod(0o666)):
        jit.compiled.cache_clear()
        jit.compiled(total, "LlB", tmp_path)
        [copy] = tmp_path.iterdir()
        spoil(copy)
        before = copy.stat().st_ino
        jit.compiled.cache_clear()
        assert jit.compiled(total, "LlB", tmp_path)(numbers, 2, doubled) == 7
        [copy] = tmp_path.iterdir()
        assert copy.stat().st_ino != before


def test_a_function_that_is_called_becomes_a_part(tmp_path: Path) -> None:
    assert jit.compiled(one_more_than_twice, "l", tmp_path)(20) == 41


def test_a_function_of_a_library_is_called_by_its_address(tmp_path: Path) -> None:
    assert how_far(3, 1 << 40) == (1 << 40) - 3
    assert jit.compiled(how_far, "ll", tmp_path)(3, 1 << 40) == (1 << 40) - 3


@pytest.mark.parametrize("module", ["_ctypes", "firedamp.none", "firedamp.scanner.jit"])
def test_without_its_library_a_function_is_no_good(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "absolute", jit.Foreign(module, "there_is_no_such_function", "l", "l"))
    with pytest.raises(jit.NoCompilerError, match="there_is_no_such_function"):
        jit.compiled(how_far, "ll", tmp_path)


def test_a_function_that_raises_says_so(tmp_path: Path) -> None:
    code = jit.compiled(calling_python, "l", tmp_path)
    assert code(2) == 2
    with pytest.raises(RuntimeError, match="raised"):
        code(4)


def test_without_numba_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(jit.NoCompilerError, match="numba is missing"):
        jit.compiled(calling_python, "l", tmp_path / "other")
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    with pytest.raises(jit.NoCompilerError, match="numba is missing"):
        jit.compiled(calling_python, "l", tmp_path / "third")


def prepared_by_a_thread(folder: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(jit.prepare, [(total, "LlB"), (one_more_than_twice, "l")], folder).result()


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_what_is_missing_is_compiled_by_other_processes_where_this_one_may_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared_by_a_thread(tmp_path)
    assert not [*tmp_path.iterdir()]

    # This process may have threads of other tests.
    program = """if True:
        import sys
        from pathlib import Path
        from firedamp.scanner import jit
        from tests.test_jit import calling_python, one_more_than_twice, total
        for _ in range(2):
            jit.prepare([(total, "LlB"), (one_more_than_twice, "l"), (calling_python, "l")], Path(sys.argv[1]))
        assert "numba" not in sys.modules
    """
    root = Path(__file__).parents[1]
    search = os.pathsep.join((str(root), str(root / ".links")))
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": search},
        check=True,
    )
    assert len([*tmp_path.iterdir()]) == 3
    jit.compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    assert jit.compiled(one_more_than_twice, "l", tmp_path)(20) == 41


def test_without_a_compiler_nothing_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    jit.prepare([(total, "LlB"), (twice, "l")], tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_where_no_process_can_be_begun_nothing_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jit.compiled.cache_clear()
    wanted = [(total, "LlB"), (one_more_than_twice, "l")]
    real, begun = os.fork, []

    def fork() -> int:
        begun.append(0)
        if len(begun) % 2 == 0:
            raise BlockingIOError("Resource temporarily unavailable")
        return real()

    monkeypatch.setattr(threading, "active_count", lambda: 1)  # other tests may have left threads
    monkeypatch.setattr(os, "fork", fork)
    jit.prepare(wanted, tmp_path / "cache")
    assert len(begun) == 2
    assert jit.compiled(one_more_than_twice, "l", tmp_path)(20) == 41


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_nothing_is_prepared_for_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr(threading, "active_count", lambda: 1)  # other tests may have left threads
    monkeypatch.setattr(os, "fork", lambda: begun.append(0))
    (tmp_path / "file").touch()
    jit.prepare([(total, "LlB"), (one_more_than_twice, "l")], tmp_path / "file" / "cache")
    assert not begun
