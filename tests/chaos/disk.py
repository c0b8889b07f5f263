"""A disk that forgets what was not synced: the system calls of a process, as strace wrote them down, played on a model of the disk.

What a power cut may leave of the files is then anything between two extremes: only what an fsync of the file, and of the folder that
holds its name, has made durable, or everything. The model is compared with the real disk at the end, so that it cannot have missed a call.
"""

import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

Mode = Literal["strict", "torn", "all"]
"""What survives: only what was synced; that, and a random part of the rest; everything."""
CALLS = (
    "openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,"
    "rmdir,link,linkat,symlink,symlinkat,fsync,fdatasync,sync_file_range,close,lseek,fallocate,dup,dup2,dup3,mmap,copy_file_range,sendfile"
)
SECTOR = 512
_WHOLE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?|0x[0-9a-f]+)")
_BEGUN = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>")
_ENDED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+|\?|0x[0-9a-f]+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclass
class Write:
    at: int
    data: bytes
    """None of it: the file is cut to `at`."""
    is_cut: bool
    number: int


@dataclass(eq=False)
class File:
    """What is durable of it, and what was done to it since."""

    kept: bytes = b""
    pending: list[Write] = field(default_factory=list)
    size: int = 0

    def content(self, writes: list[Write]) -> bytes:
        found = bytearray(self.kept)
        for write in writes:
            if write.is_cut:
                del found[write.at :]
                found.extend(bytes(max(write.at - len(found), 0)))
            else:
                found.extend(bytes(max(write.at - len(found), 0)))
                found[write.at : write.at + len(write.data)] = write.data
        return bytes(found)


class Folder(NamedTuple):
    """A thing that has a name, without content."""


FOLDER = Folder()
Names = dict[str, File | Folder]


@dataclass
class Naming:
    """A change of names, which holds after a power cut once its folder was synced."""

    folder: str
    """The one that gains a name, or loses it."""
    set: dict[str, File | Folder]
    gone: list[str]
    number: int


@dataclass
class Handle:
    file: File | None
    """None: a folder."""
    path: str
    appends: bool
    at: int = 0


class Call(NamedTuple):
    thread: str
    name: str
    arguments: str
    result: int | None
    """None: it has begun, or the process died in it."""
    begins: bool


def calls(log: Path) -> Iterator[Call]:
    begun: dict[str, tuple[str, str]] = {}
    with log.open(encoding="ascii") as lines:
        for line in lines:
            if (whole := _WHOLE.match(line)) is not None:
                yield Call(whole[1], whole[2], whole[3], _number(whole[4]), begins=True)
            elif (part := _BEGUN.match(line)) is not None:
                begun[part[1]] = (part[2], part[3])
                yield Call(part[1], part[2], part[3], None, begins=True)
            elif (rest := _ENDED.match(line)) is not None:
                name, arguments = begun.pop(rest[1])
                yield Call(rest[1], name, arguments + rest[3], _number(rest[4]), begins=False)


def _number(text: str) -> int | None:
    return None if text == "?" else int(text, 0)


def _texts(arguments: str) -> list[bytes]:
    found = []
    for match in _TEXT.finditer(arguments):
        assert not match[2], "strace cut a text short"
        found.append(bytes.fromhex(match[1].replace("\\x", "")))
    return found


class Disk:
    """Everything under `root`, which is durable at the beginning."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self.live: Names = {}
        self._durable: Names = {}
        self._namings: list[Naming] = []
        self._handles: dict[int, Handle] = {}
        self._number = 0
        self._syncing: dict[str, int] = {}
        self._torn: list[str] = []
        self.syncs = 0
        for folder, folders, files in os.walk(root):
            self.live |= {os.path.join(folder, name): FOLDER for name in folders}
            self.live |= {os.path.join(folder, name): _as_it_is(Path(folder, name)) for name in files}
        self._durable = dict(self.live)

    def play(self, log: Path) -> None:
        """All calls; what the process died in is taken for not done, unless the real disk shows a name changed."""
        unfinished: dict[str, Call] = {}
        for call in calls(log):
            if call.begins:
                self._syncing[call.thread] = self._number
                if call.name == "close":  # its number is free at once, and may be given away before the call returns
                    self._handles.pop(int(call.arguments), None)
            if call.result is None:  # begun, or killed in it
                unfinished[call.thread] = call
                continue
            unfinished.pop(call.thread, None)
            if call.result >= 0:
                self._do(call)
        for call in unfinished.values():
            self._note_torn(call)
            if call.name in ("rename", "unlink", "mkdir", "openat") and self._happened(call):
                self._do(call._replace(result=1 << 20))

    def _note_torn(self, call: Call) -> None:
        """It died writing: how much of it the real disk has, nobody was told."""
        if call.name in ("write", "writev", "pwrite64", "ftruncate") and (handle := self._handle(call)) is not None:
            self._torn.append(handle.path)

    def _happened(self, call: Call) -> bool:
        path = os.fsdecode(_texts(call.arguments)[0])
        if not self._is_ours(path):
            return False
        there = os.path.lexists(path)
        return there != (path in self.live)

    def _is_ours(self, path: str) -> bool:
        return path.startswith(self._root + "/") and not path.endswith("-shm")

    # --- calls -------------------------------------------------------------------------------------------------------

    def _do(self, call: Call) -> None:
        self._number += 1
        handler = getattr(self, f"_on_{call.name}", None)
        if handler is not None:
            handler(call)
            return
        paths = [os.fsdecode(text) for text in _texts(call.arguments)] if "at(" in f"{call.name}(" else []
        first = call.arguments.split(",")[0].strip()
        is_ours = any(map(self._is_ours, paths)) or (first.isdigit() and int(first) in self._handles)
        assert not is_ours, f"the model of the disk does not know {call.name}({call.arguments[:200]})"

    def _on_openat(self, call: Call) -> None:
        assert call.result is not None
        self._handles.pop(call.result, None)
        path = os.fsdecode(_texts(call.arguments)[0]).rstrip("/")
        flags = call.arguments.rpartition('"')[2]
        if path == self._root or isinstance(self.live.get(path), Folder):
            self._handles[call.result] = Handle(None, path, appends=False)
            return
        if not self._is_ours(path):
            assert call.arguments.startswith("AT_FDCWD") or not self._is_folder_of_ours(call), "opened beside a handle"
            return
        if path not in self.live:
            self._name(path, {path: File()}, [])
        file = self.live[path]
        assert isinstance(file, File)
        if "O_TRUNC" in flags:
            self._cut(file, 0)
        self._handles[call.result] = Handle(file, path, appends="O_APPEND" in flags)

    def _is_folder_of_ours(self, call: Call) -> bool:
        first = call.arguments.split(",")[0]
        return first.isdigit() and int(first) in self._handles

    def _handle(self, call: Call) -> Handle | None:
        return self._handles.get(int(call.arguments.split(",")[0]))

    def _on_write(self, call: Call) -> None:
        if (handle := self._handle(call)) is not None:
            assert handle.file is not None
            at = handle.file.size if handle.appends else handle.at
            self._write(handle.file, at, call)
            handle.at = at + (call.result or 0)

    _on_writev = _on_write

    def _on_pwrite64(self, call: Call) -> None:
        if (handle := self._handle(call)) is not None:
            assert handle.file is not None
            self._write(handle.file, int(call.arguments.rpartition(",")[2]), call)

    def _write(self, file: File, at: int, call: Call) -> None:
        data = b"".join(_texts(call.arguments))[: call.result]
        file.pending.append(Write(at, data, is_cut=False, number=self._number))
        file.size = max(file.size, at + len(data))

    def _cut(self, file: File, length: int) -> None:
        file.pending.append(Write(length, b"", is_cut=True, number=self._number))
        file.size = length

    def _on_ftruncate(self, call: Call) -> None:
        if (handle := self._handle(call)) is not None:
            assert handle.file is not None
            self._cut(handle.file, int(call.arguments.rpartition(",")[2]))

    def _on_truncate(self, call: Call) -> None:
        file = self.live.get(os.fsdecode(_texts(call.arguments)[0]))
        if isinstance(file, File):
            self._cut(file, int(call.arguments.rpartition(",")[2]))

    def _on_lseek(self, call: Call) -> None:
        if (handle := self._handle(call)) is not None:
            handle.at = call.result or 0

    def _on_close(self, _: Call) -> None:
        """When it began."""

    def _on_mmap(self, call: Call) -> None:
        _, _, protection, flags, fd, *_ = call.arguments.split(", ")
        if fd.isdigit() and int(fd) in self._handles:
            assert not ("PROT_WRITE" in protection and "MAP_SHARED" in flags), "a file is written through memory"

    def _on_fsync(self, call: Call) -> None:
        handle = self._handle(call)
        if handle is None:
            return
        self.syncs += 1
        begun = self._syncing[call.thread]
        if handle.file is None:
            self._keep_names(handle.path, begun)
            return
        file = handle.file
        file.kept = file.content([write for write in file.pending if write.number <= begun])
        file.pending = [write for write in file.pending if write.number > begun]

    _on_fdatasync = _on_fsync

    def _on_rename(self, call: Call) -> None:
        old, new = (os.fsdecode(text) for text in _texts(call.arguments))
        if self._is_ours(old) or self._is_ours(new):
            file = self.live[old]
            assert isinstance(file, File), "a folder is renamed"
            self._name(new, {new: file}, [old])
            for handle in self._handles.values():
                if handle.file is file:
                    handle.path = new

    def _on_unlink(self, call: Call) -> None:
        path = os.fsdecode(_texts(call.arguments)[0])
        if self._is_ours(path):
            self._name(path, {}, [path])

    def _on_mkdir(self, call: Call) -> None:
        path = os.fsdecode(_texts(call.arguments)[0]).rstrip("/")
        if self._is_ours(path):
            self._name(path, {path: FOLDER}, [])

    def _name(self, path: str, fresh: Names, gone: list[str]) -> None:
        naming = Naming(str(Path(path).parent), dict(fresh), gone, self._number)
        self._namings.append(naming)
        _apply(naming, self.live)

    def _keep_names(self, folder: str, begun: int) -> None:
        done = [naming for naming in self._namings if naming.folder == folder and naming.number <= begun]
        for naming in done:
            _apply(naming, self._durable)
            self._namings.remove(naming)

    # --- the power cut -----------------------------------------------------------------------------------------------

    def differs(self) -> list[str]:
        """Where the model is not what really is there (files that the process died writing are not looked at: they have no end)."""
        wrong = []
        for path, thing in self.live.items():
            if isinstance(thing, File) and path not in self._torn:
                wrong += [path] if Path(path).read_bytes() != thing.content(thing.pending) else []
        there = {
            os.path.join(folder, name) for folder, folders, files in os.walk(self._root) for name in folders + files
        }
        return wrong + sorted({path for path in there if self._is_ours(path)} ^ self.live.keys())

    @property
    def unsynced(self) -> int:
        """Writes and changes of names that a power cut may undo."""
        files = {id(f): f for f in (*self.live.values(), *self._durable.values()) if isinstance(f, File)}
        return len(self._namings) + sum(len(f.pending) for f in files.values())

    def cut_power(self, mode: Mode, chance: random.Random) -> None:
        """Makes the real disk what is left. A file that keeps a name keeps its inode, as it would."""
        names = dict(self._durable)
        survive = {"strict": 0, "torn": chance.randint(0, len(self._namings)), "all": len(self._namings)}[mode]
        for naming in self._namings[:survive]:  # a journaling file system keeps their order
            _apply(naming, names)
        stash = Path(self._root).with_name("stash")
        stash.mkdir()
        kept = self._clear(stash)
        for path in sorted(path for path, thing in names.items() if isinstance(thing, Folder)):
            if Path(path).parent.is_dir():
                os.mkdir(path, 0o700)
        for path, thing in names.items():
            # A file whose folder is lost is lost.
            if isinstance(thing, File) and Path(path).parent.is_dir():
                if id(thing) in kept:
                    os.rename(kept.pop(id(thing)), path)
                Path(path).write_bytes(thing.content(_survivors(thing.pending, mode, chance)))
        for place in kept.values():
            os.unlink(place)
        stash.rmdir()

    def _clear(self, stash: Path) -> dict[int, Path]:
        """Takes all from the disk; the files that have a name now stand in `stash`."""
        kept: dict[int, Path] = {}
        for path, thing in self.live.items():
            if isinstance(thing, File) and os.path.lexists(path):
                kept[id(thing)] = stash / str(len(kept))
                os.rename(path, kept[id(thing)])
        for folder, folders, files in os.walk(self._root, topdown=False):
            for name in files:
                os.unlink(os.path.join(folder, name))
            for name in folders:
                os.rmdir(os.path.join(folder, name))
        return kept


def _as_it_is(path: Path) -> File:
    content = path.read_bytes()
    return File(content, [], len(content))


def _apply(naming: Naming, names: Names) -> None:
    for path in naming.gone:
        names.pop(path, None)
    names |= naming.set


def _survivors(pending: list[Write], mode: Mode, chance: random.Random) -> list[Write]:
    if mode == "all":
        return pending
    if mode == "strict":
        return []
    left = [write for write in pending if chance.random() < 0.5]
    if left and not left[-1].is_cut and chance.random() < 0.5:
        last = left.pop()
        sectors = chance.randint(0, len(last.data) // SECTOR)
        left.append(Write(last.at, last.data[: sectors * SECTOR], is_cut=False, number=last.number))
    return left
