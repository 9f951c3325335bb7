"""The files of a folder, or of a zip that is not unpacked."""

from __future__ import annotations

import os
import re
import stat
import threading
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from types import TracebackType

from modelrepair.errors import RepairError

LARGEST_FILE = 2**28
"""Bytes of one file of a zip; beyond them it is no image but an attempt to fill the memory."""
LONGEST_NAME = 300
"""Of a file, as a message shows it."""
_NO_DATA = {"thumbs.db", "desktop.ini", "__macosx"}
"""What systems leave in folders, beside files and folders whose names begin with a dot."""
_ENCRYPTED = 0x1
_HEADER = 30
"""Bytes before a member's name and content, of which there are as many at least as the name has letters."""


class Files(ABC):
    """Named files.

    Attributes:
        path: of the folder or zip.
        names: of the files relative to it, with / between folders, sorted; hidden ones are left out.
        folders: the names of its folders, which may be empty.
    """

    path: Path
    names: list[str]
    folders: set[str]
    _inside: str = ""

    def enter(self, folder: str) -> None:
        """From now on these are the files of one of the folders alone, and their names are relative to it."""
        start = f"{folder}/"
        self._inside += start
        self.names = [name.removeprefix(start) for name in self.names if name.startswith(start)]
        self.folders = {name.removeprefix(start) for name in self.folders if name.startswith(start)}

    def read(self, name: str) -> bytes:
        """The content of a file; threads may read at the same time.

        Raises:
            Exception: of any kind, if it cannot be read.
        """
        return self._read(self._inside + name)

    @abstractmethod
    def _read(self, name: str) -> bytes:
        """The same, of a file by its whole name."""

    @abstractmethod
    def close(self) -> None:
        """Nothing is read any more."""

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_files(path: Path) -> Files:
    """The files in a folder or zip.

    Raises:
        RepairError: if it is neither or cannot be read, or holds what is no plain file or lies outside it.
    """
    try:
        if path.is_dir():
            return _Folder(path)
        if path.is_file() and zipfile.is_zipfile(path):
            return _Zip(path)
        what = "is neither a folder nor a zip" if path.exists() else "is not there"
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        what = f"cannot be read ({' '.join(str(error).split())[:200]})"
    raise RepairError(f"{path} {what}: give the folder of the images, or a whole zip of it")


class _Folder(Files):
    def __init__(self, path: Path) -> None:
        self.path, self.names, self.folders = path, [], set()
        self._walk("")
        self.names.sort()

    def _read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def close(self) -> None:
        """Files are closed as soon as they are read."""

    def _walk(self, below: str) -> None:
        with os.scandir(self.path / below) as entries:
            for entry in entries:
                name = below + entry.name
                if _is_hidden(name):
                    continue
                _check_encoding(self.path, name)
                if entry.is_dir() and entry.is_symlink():
                    raise RepairError(
                        f"{self.path / name} is a link to a folder, in which DVC would see no change: put the folder "
                        "itself there"
                    )
                if entry.is_dir():
                    self.folders.add(name)
                    self._walk(f"{name}/")
                elif entry.is_file() or not entry.is_symlink():
                    if not entry.is_file():
                        raise RepairError(f"{self.path / name} is no plain file: remove it")
                    self.names.append(name)
                else:
                    raise RepairError(f"{self.path / name} is a link to a file that is not there: remove it")


class _Zip(Files):
    def __init__(self, path: Path) -> None:
        self.path, self.folders = path, set()
        self._archive = zipfile.ZipFile(path)
        # The count of open members that zipfile keeps is not safe where threads open some at a time.
        self._lock = threading.Lock()
        self._members: dict[str, zipfile.ZipInfo] = {}
        try:
            self._collect(self._archive.infolist())
        except BaseException:
            self._archive.close()
            raise
        self.names = sorted(self._members)

    def _read(self, name: str) -> bytes:
        member = self._members[name]
        with self._lock, self._archive.open(member) as file:
            # Not all that there is: what is said to be small may unpack to anything.
            content = file.read(member.file_size + 1)
        if len(content) != member.file_size:
            raise ValueError(f"it should hold {member.file_size} bytes and holds {len(content)}")
        return content

    def close(self) -> None:
        self._archive.close()

    def _collect(self, members: Iterable[zipfile.ZipInfo]) -> None:
        end, previous = 0, ""
        for member in sorted(members, key=lambda member: member.header_offset):
            name = self._checked_name(member)
            if member.header_offset < end:
                raise RepairError(
                    f"in {self.path}, {file_name(name)} lies in the same bytes as {file_name(previous)}, so that a "
                    "small zip would unpack to endless files: pack the images anew"
                )
            size = _HEADER + len(member.orig_filename) + member.compress_size
            end, previous = member.header_offset + size, name
            if member.is_dir():
                self.folders.add(name)
            elif not _is_hidden(name):
                if name in self._members:
                    raise RepairError(f"{self.path} holds {file_name(name)} twice: pack the images anew")
                self._members[name] = member
                self.folders |= {str(parent) for parent in PurePosixPath(name).parents} - {"."}
        self.folders = {name for name in self.folders if not _is_hidden(name)}

    def _checked_name(self, member: zipfile.ZipInfo) -> str:
        """The name of a member, after a look at what it says of itself."""
        # The name as it stands there: zipfile cuts it at a zero byte.
        given = member.orig_filename.replace("\\", "/")
        parts = PurePosixPath(given).parts
        what = ""
        if not parts or given.startswith("/") or ".." in parts or re.match("[A-Za-z]:", given):
            what = "has a path that leads out of it"
        elif "\0" in given:
            what = "has a name with a zero byte"
        elif stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "is a link or something else that is no plain file"
        elif member.flag_bits & _ENCRYPTED:
            what = "is encrypted"
        elif member.file_size > LARGEST_FILE:
            what = f"would unpack to {member.file_size / 2**20:,.0f} MiB, more than any image needs"
        if what:
            raise RepairError(
                f"in {self.path}, {file_name(member.orig_filename)} {what}: pack the images anew, in plain files"
            )
        name = "/".join(parts)
        _check_encoding(self.path, name)
        return name


def file_name(name: str) -> str:
    """The name of a file as a message shows it: whole, so that it can be found, unless it can be the name of none."""
    text = name if name.isprintable() else repr(name)
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part.lower() in _NO_DATA for part in name.split("/"))


def _check_encoding(path: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise RepairError(
            f"{path} holds the file {os.fsencode(name)!r}, whose name is not UTF-8: rename it"
        ) from None
