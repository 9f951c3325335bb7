"""Artefacts: written whole or not at all, and checked when they are read.

Everything is written under a hidden name beside its place and moved there in one step, so a kill, a full
disk or an error never leaves a half-written artefact in sight, and the previous one stays until then.
Formats: arrays `.npy`, tables Parquet, numbers JSON, tensors safetensors. None can hold code. Each carries a checksum
of its content, so a cache that lost a bit is noticed. Curves that DVC draws are CSV, which has none.

Where several processes work together, only the first of them writes.

Every reader raises RepairError if its file is missing, truncated, damaged or of another format.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import json
import math
import os
import re
import secrets
import shutil
import tempfile
import tokenize
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from modelrepair.errors import RepairError
from modelrepair.pipeline import processes

if TYPE_CHECKING:
    import pandas as pd
    import torch

Arguments = ParamSpec("Arguments")

CHECKSUM_BYTES = 4
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


def _by_the_first(write: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """What writes a file, made to do so in the first of processes that work together alone."""

    @functools.wraps(write)
    def writing(*arguments: Arguments.args, **options: Arguments.kwargs) -> None:
        if processes.is_first():
            write(*arguments, **options)

    return writing


@contextlib.contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """A fresh folder to write into, which takes its place at `path` when the block ends without an error.

    Whatever was at `path` stays there until that moment, and for good if the block fails. Parent folders
    are made. What killed runs left of earlier attempts at the same path is removed first.

    Raises:
        RepairError: if the disk is full or the place cannot be written to.
    """
    with _temporary_folder(path) as temporary:
        yield temporary
        if not processes.is_first():
            return
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush_to_disk(file)
        _put_in_place(temporary, path)


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """Where to write one file, which takes its place at `path` when the block ends without an error.

    As `output_folder`; the name inside the block is the same, only in another folder.

    Raises:
        RepairError: if the disk is full or the place cannot be written to.
    """
    with _temporary_folder(path) as temporary:
        file = temporary / path.name
        yield file
        if not processes.is_first():
            return
        _flush_to_disk(file)
        file.replace(path)


@_by_the_first
def write_array(path: Path, array: ArrayLike) -> None:
    """Write an array of numbers, truth values or text as `.npy`, with a checksum behind it, which NumPy passes over.

    Raises:
        RepairError: if the array holds Python objects, which only pickle could store.
    """
    values = np.asarray(array, order="C")
    if values.dtype.hasobject:
        raise RepairError(f"{path} would hold Python objects: give an array of numbers or text instead")
    with path.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(values)
        np.lib.format.write_array_header_1_0(file, header)
        # np.save writes past Python's file object, and its error on a full disk does not say why.
        content = _bytes_of(values)
        file.write(content)
        file.write(_checksum(content))


@_by_the_first
def write_array_of_pieces(
    path: Path, shape: tuple[int, ...], dtype: DTypeLike, pieces: Iterable[NDArray[Any]]
) -> None:
    """Write what `write_array` would of all pieces, one behind the other, holding one of them at a time.

    Args:
        path: the file.
        shape: of one row.
        dtype: of the numbers.
        pieces: arrays (any number of rows, *shape) of that type.
    """
    rows, checksum = 0, 0
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    with path.open("wb") as file:
        # NumPy leaves room in a header for the number of rows to grow, so its length is not that number's.
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (rows, *shape)})
        for piece in pieces:
            content = _bytes_of(np.asarray(piece, order="C", dtype=dtype))
            file.write(content)
            checksum = int.from_bytes(_checksum(content, checksum), "big")
            rows += len(piece)
        file.write(checksum.to_bytes(CHECKSUM_BYTES, "big"))
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (rows, *shape)})


def read_array(path: Path) -> NDArray[Any]:
    """The array of a `.npy` file, memory-mapped and read-only; its checksum is verified in one pass."""
    with _reading(path, EOFError, OverflowError, SyntaxError, TypeError, tokenize.TokenError):
        array = np.lib.format.open_memmap(path, mode="r")
        end = array.offset + array.nbytes
        if end + CHECKSUM_BYTES != path.stat().st_size:
            raise ValueError("its size does not fit its header")
        with path.open("rb") as file:
            file.seek(end)
            _check(file.read(), _checksum(_bytes_of(array)))
    return array


@_by_the_first
def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, without its index; equal tables give equal bytes."""
    import pyarrow
    import pyarrow.parquet

    content = pyarrow.Table.from_pandas(table, preserve_index=False)
    # pandas notes its version and the like there, which would change the bytes of equal tables.
    content = content.replace_schema_metadata(None)
    pyarrow.parquet.write_table(content, path, compression="zstd", write_page_checksum=True)


def read_table(path: Path) -> pd.DataFrame:
    """The table of a Parquet file; its checksums are verified."""
    import pyarrow
    import pyarrow.parquet

    with _reading(path, pyarrow.ArrowException):
        # Opened here because pyarrow would take a folder for a partitioned table.
        with path.open("rb") as file:
            content = pyarrow.parquet.ParquetFile(file, page_checksum_verification=True).read()
        table: pd.DataFrame = content.to_pandas()
    return table


def read_curve(path: Path, **types: str) -> pd.DataFrame:
    """The table of a CSV file of numbers and truth values, as the curves are that DVC draws.

    Args:
        path: the file.
        types: NumPy's names of the types that columns must have if they are there: "int64" for whole numbers and "bool"
            for truth values, of which none may be missing.
    """
    import pandas as pd

    with _reading(path):
        table = pd.read_csv(path)
        if table.empty:
            raise ValueError("it has no rows")
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("its rows have more values than its first line names columns")
        for name, column in table.items():
            if column.dtype.kind not in "iufb" or column.dtype != types.get(str(name), column.dtype):
                raise ValueError(f"its column {name} does not hold {types.get(str(name), 'numbers')} alone")
    return table


@_by_the_first
def write_json(path: Path, content: Any, *, checksum: bool = True) -> None:
    """Write JSON in the order given; NaN and infinity, which JSON lacks, become null.

    NumPy numbers and arrays are written as numbers and lists.

    Args:
        path: the file.
        content: what to write.
        checksum: whether an object gets a further entry with the checksum of the others; metrics have none.
    """
    plain = _plain(content)
    if checksum and isinstance(plain, dict):
        plain["checksum"] = _checksum_of_json(plain)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The content of a JSON file; its checksum, if it has one, is verified and left out."""
    with _reading(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "checksum" in content:
            _check(content.pop("checksum"), _checksum_of_json(content))
        return content


@_by_the_first
def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named tensors as safetensors; equal tensors give equal bytes, whatever their order or device.

    Args:
        path: the file.
        tensors: by name.
        metadata: texts to keep beside them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    independent: dict[str, torch.Tensor] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        values = tensor.detach().cpu().contiguous()
        storage = values.untyped_storage()
        # The format refuses tensors that share memory, such as pieces of one parameter vector.
        if storage.nbytes() != values.nbytes or storage.data_ptr() in memory:
            values = values.clone()
        memory.add(values.untyped_storage().data_ptr())
        independent[name] = values
    try:
        save_file(
            independent, path, metadata={**(metadata or {}), "checksum": _checksum_of_tensors(independent)}
        )
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if not code:
            raise
        raise OSError(int(code[1]), str(error), str(path)) from error
    # The format's own writer lets nobody else read.
    path.chmod(0o666 & ~_file_mask())


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """The named tensors of a safetensors file, on a device; their checksum is verified."""
    from safetensors import SafetensorError

    with _reading(path, SafetensorError):
        tensors, _ = tensors_with_metadata(path)
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def tensors_with_metadata(
    path: Path, *, others: bool = False
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """What `write_tensors` wrote, on the CPU, with the metadata.

    Args:
        path: the file.
        others: whether other programs may have written it, which note no checksum.

    Raises:
        SafetensorError, OSError, ValueError: if it cannot be read, or its checksum is not that of the tensors.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as content:
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        metadata = dict(content.metadata() or {})
    if "checksum" in metadata or not others:
        _check(metadata.pop("checksum", None), _checksum_of_tensors(tensors))
    return tensors, metadata


@contextlib.contextmanager
def _reading(path: Path, *damage: type[Exception]) -> Iterator[None]:
    """Turn what a reader raises into one sentence; `damage` is what this format raises beside ValueError."""
    failures: tuple[type[Exception], ...] = (ValueError, OSError, *damage)
    otherwise = "or `dvc repro -f` for the stage that writes it"
    remedy = f"run `dvc checkout`, {otherwise}"
    try:
        if not path.exists():
            raise RepairError(f"{path} is missing: {remedy}")
        if not path.is_file():
            raise RepairError(f"{path} should be a file but is a folder: remove it, then {remedy}")
        yield
    except PermissionError as error:
        raise RepairError(f"{path} may not be read by this user: change its permissions") from error
    except failures as error:
        reason = " ".join(str(error).split())[:200]
        raise RepairError(
            f"{path} is truncated or damaged ({reason}): run `dvc checkout --force`, {otherwise}"
        ) from error


@contextlib.contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path`, locked while this process lives and removed in any case.

    Processes that write no results get one elsewhere, for what writes into it by itself, as pictures do.
    """
    if not processes.is_first():
        with tempfile.TemporaryDirectory() as elsewhere:
            yield Path(elsewhere)
        return
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.writing"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        temporary.mkdir()
        lock = os.open(temporary, os.O_RDONLY)
    except OSError as error:
        _remove(temporary)
        _explain(error, path, temporary, [str(path)])
        raise
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield temporary
    except OSError as error:
        named = [str(name) for name in (error.filename, error.filename2) if name is not None]
        _explain(error, path, temporary, named)
        raise
    finally:
        _remove(temporary)
        os.close(lock)


def _remove_leftovers(path: Path) -> None:
    """Remove the hidden folders of earlier writes to `path` that no living process has locked."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.writing")
    for leftover in path.parent.iterdir():
        if not pattern.fullmatch(leftover.name):
            continue
        with contextlib.suppress(OSError):
            lock = os.open(leftover, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(leftover)
            finally:
                os.close(lock)


def _explain(error: OSError, path: Path, temporary: Path, named: list[str]) -> None:
    """Raise a RepairError if the error, which names these files, is about the artefact being written."""
    ours = [n for n in named if n == str(path) or n == str(temporary) or n.startswith(f"{temporary}{os.sep}")]
    if named and not ours:
        return
    if error.errno in _NO_SPACE:
        free = shutil.disk_usage(path.parent).free / 2**20
        raise RepairError(
            f"{path} could not be written, because the disk, the quota or the limit on file sizes is exhausted "
            f"({free:.0f} MiB are free in {path.parent}): make room and run it again; earlier artefacts are "
            "untouched"
        ) from error
    if error.errno in _FORBIDDEN or (error.errno in _IN_THE_WAY and str(path) in named):
        raise RepairError(
            f"{path} could not be written ({error.strerror}): see that {path.parent} is a folder in which this "
            "user may write and run it again; earlier artefacts are untouched"
        ) from error


def _put_in_place(temporary: Path, path: Path) -> None:
    """Move a finished folder to `path`; what was there ends up under the temporary name, to be removed."""
    if not os.path.lexists(path):
        temporary.rename(path)
    elif not _exchange(temporary, path):
        previous = temporary.with_name(f".{path.name}.{secrets.token_hex(4)}.writing")
        path.rename(previous)
        try:
            temporary.rename(path)
        except OSError:
            previous.rename(path)
            raise
        _remove(previous)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step; False where the system or the file system cannot."""
    at_current_folder, exchange = -100, 2
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):
        return False
    names = os.fsencode(first), os.fsencode(second)
    return bool(rename(at_current_folder, names[0], at_current_folder, names[1], exchange) == 0)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _checksum(content: Any, start: int = 0) -> bytes:
    """CRC-32 of bytes, a piece at a time, so that what is memory-mapped need not be held."""
    view = memoryview(content)
    for position in range(0, len(view), 2**24):
        start = zlib.crc32(view[position : position + 2**24], start)
    return start.to_bytes(CHECKSUM_BYTES, "big")


def _checksum_of_json(content: dict[str, Any]) -> str:
    return _checksum(json.dumps(content, sort_keys=True).encode()).hex()


def _checksum_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    value = _checksum(json.dumps(sorted(tensors)).encode())
    for name in sorted(tensors):
        value = _checksum(_bytes_of(tensors[name]), int.from_bytes(value, "big"))
    return value.hex()


def _bytes_of(values: Any) -> Any:
    """The memory of a contiguous array or tensor."""
    if isinstance(values, np.ndarray):
        return values.reshape(-1).view(np.uint8).data
    import torch

    return values.reshape(-1).view(torch.uint8).numpy().data


def _check(found: object, expected: object) -> None:
    if found != expected:
        raise ValueError("its checksum is not that of its content")


def _file_mask() -> int:
    """The permissions that this process takes from new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush_to_disk(file: Path) -> None:
    """Wait until the content is on the disk: some file systems notice only then that they are full."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(content: Any) -> Any:
    """The same content in the types that JSON knows."""
    if isinstance(content, np.ndarray | np.generic):
        content = content.tolist()
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
