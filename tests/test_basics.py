"What every module relies on: mistakes of users, files that are never half-written, devices, folders, processes."

import contextlib
import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tiny import assert_says, files_below, full_disk

from millivid.basics import MissingFileError, UserError, choose_device, disk_errors, first_line, lock_folder
from millivid.basics import out_of_memory, worker_pool, write_atomically, write_json


def caught(call, *arguments):
    "The error that a call raises."
    with pytest.raises(Exception) as error:
        call(*arguments)
    return error.value


def test_a_missing_file_may_be_caught_as_any_of_its_kinds():
    for kind in (UserError, ValueError, FileNotFoundError):
        with pytest.raises(kind, match="^no such thing$"):
            raise MissingFileError("no such thing")


@pytest.mark.parametrize("error, line", [(ValueError("one\ntwo"), "ValueError: one"), (KeyError(), "KeyError: ")])
def test_the_first_line_of_an_error_has_its_name(error, line):
    assert first_line(error) == line


# ---- memory ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("error", [
    MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), caught(np.empty, 2 ** 50, np.uint8),
    caught(lambda: torch.empty(2 ** 50, dtype=torch.uint8))], ids=first_line)
def test_errors_of_too_little_memory(error):
    assert out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("memory"), UserError("out of reach"),
                                   OSError(errno.ENOSPC, "No space left on device")], ids=first_line)
def test_errors_that_have_nothing_to_do_with_memory(error):
    assert not out_of_memory(error)


# ---- files -----------------------------------------------------------------------------------------------------------

def failing_write(error):
    "A function that writes half of a file, then fails."
    def write(path):
        path.write_text("half of the new")
        raise error
    return write


@pytest.mark.parametrize("error, reason", [
    (OSError(errno.ENOSPC, "No space left on device"), "no space left"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "no space left"),
    (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "no space left"),
    (SafetensorError("Error while serializing: IoError(Os { code: 28, kind: StorageFull })"), "no space left"),
    (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed\nand more"), "failed writing"),
    (RuntimeError("basic_ios::clear: iostream error"), "iostream error"),  # a disk that is full from the first byte on
    (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0."), "unexpected pos"),
    (SafetensorError("Error while serializing: I/O error: File too large (os error 27)"), "file too large"),
    (PermissionError(errno.EACCES, "Permission denied"), "permission denied"),
    (OSError("without a number\nand more"), "without a number")], ids=first_line)
def test_a_disk_that_takes_no_more_is_one_line_and_the_old_file_stays(error, reason, tmp_path):
    (path := tmp_path / "file.txt").write_text("old")
    with pytest.raises(UserError) as found:
        write_atomically(path, failing_write(error))
    assert_says(found.value, path, reason, "free some space", "another folder")
    assert "\n" not in str(found.value)
    assert path.read_text() == "old" and files_below(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [UserError("clear"), MissingFileError("clear"), ValueError("a bug"),
                                   RuntimeError("a bug"), KeyError("a bug")], ids=first_line)
def test_what_is_no_trouble_of_the_disk_stays_what_it_is(error, tmp_path):
    assert caught(write_atomically, tmp_path / "file.txt", failing_write(error)) is error
    assert files_below(tmp_path) == []
    with pytest.raises(type(error)) as found, disk_errors(tmp_path):
        raise error
    assert found.value is error


@pytest.mark.parametrize("path", ["file/below.txt", "file/deep/below.txt", "folder"])
def test_a_place_that_cannot_be_written_is_named(path, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError) as error:
        write_atomically(tmp_path / path, lambda temporary: temporary.write_text("new"))
    assert_says(error.value, tmp_path / path, "another folder")
    assert files_below(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("indent", [None, 1])
def test_json_comes_back_and_what_is_none_leaves_the_old_file(indent, tmp_path):
    path, value = tmp_path / "new" / "file.json", {"a": [1, 2.5, None], "b": "\u00e4"}
    write_json(path, value, indent)
    assert json.loads(path.read_text()) == value and ("\n" in path.read_text()) == (indent is not None)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == value and files_below(tmp_path) == ["new/file.json"]


@pytest.mark.parametrize("limit", [10, 3_000])
def test_a_disk_that_is_really_full(limit, tmp_path):
    "Files can grow to a few bytes only: what the system, PyTorch and safetensors then say is one line."
    array = torch.rand(10_000)
    ways = {"a": lambda path: torch.save({"array": array}, path), "b": lambda path: save_file({"array": array}, path),
            "c": lambda path: path.write_bytes(array.numpy().tobytes())}
    before = {}
    for name, write in ways.items():
        write_atomically(tmp_path / name, lambda path: path.write_text(name))
        before[name] = name
        with full_disk(limit), pytest.raises(UserError) as error:
            write_atomically(tmp_path / name, write)
        assert_says(error.value, tmp_path / name, "free some space", "unchanged")
    assert {name: (tmp_path / name).read_text() for name in files_below(tmp_path)} == before


# ---- devices ---------------------------------------------------------------------------------------------------------

def test_a_gpu_is_taken_where_there_is_one(monkeypatch):
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
        assert choose_device() == choose_device("auto") == torch.device(expected)


@pytest.mark.parametrize("name, gpus", [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_gpus_are_counted(name, gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert_says(caught(choose_device, name), name, f"{gpus} GPUs", "'cpu'")


@pytest.mark.parametrize("error", [RuntimeError, AssertionError])
def test_a_device_that_does_not_work_is_one_line(error, monkeypatch):
    def empty(*_, **__):
        raise error("the driver is too old\nand more")
    monkeypatch.setattr(torch, "empty", empty)
    found = caught(choose_device, "cpu")
    assert_says(found, "'cpu'", "the driver is too old", "'auto'")
    assert isinstance(found, UserError) and "\n" not in str(found)


# ---- folders ---------------------------------------------------------------------------------------------------------

LOCK = "import sys; from millivid.basics import lock_folder\nwith lock_folder(sys.argv[1]): print('mine')"


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path):
    folder = tmp_path / "new" / "folder"  # is made
    with lock_folder(folder):
        other = subprocess.run([sys.executable, "-c", LOCK, folder], capture_output=True, text=True)
        assert other.returncode == 1 and other.stdout == ""
        assert_says(other.stderr.splitlines()[-1], "UserError", folder, "another process", "another folder")
    with pytest.raises(KeyError), lock_folder(folder):  # let go by the end of the block, ...
        with pytest.raises(UserError), lock_folder(folder):
            pass
        raise KeyError
    with lock_folder(folder):  # ... and by its error
        pass


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_file_is_no_folder_to_keep(below, tmp_path):
    (path := tmp_path / "file").write_text("mine")
    with pytest.raises(UserError) as error, lock_folder(path / below):
        pass
    assert_says(error.value, path / below, "is a file", "give a folder")
    assert path.read_text() == "mine" and files_below(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [OSError(errno.EROFS, "Read-only file system"),
                                   PermissionError(errno.EACCES, "Permission denied")], ids=first_line)
def test_a_folder_that_is_read_only(error, tmp_path, monkeypatch):
    def acquire(*_, **__):
        raise error
    monkeypatch.setattr("millivid.basics.FileLock.acquire", acquire)
    with pytest.raises(UserError) as found, lock_folder(tmp_path):
        pass
    assert_says(found.value, tmp_path, error.strerror, "give another folder")


# ---- processes -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("end", [None, KeyError, KeyboardInterrupt])
def test_a_pool_of_workers_leaves_the_environment_as_it_was(end, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    before = dict(os.environ)
    with pytest.raises(end) if end else contextlib.nullcontext(), worker_pool(1):
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONSAFEPATH")
        assert [os.environ[name] for name in names] == ["1", "1", "1"]
        if end:
            raise end
    assert dict(os.environ) == before


def test_a_pool_without_workers_leaves_the_environment_as_it_was():
    before = dict(os.environ)
    with pytest.raises(ValueError), worker_pool(0):
        pass
    assert dict(os.environ) == before
