"""One array on disk that grows row by row and survives a kill: rows first, then their record."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from numpy.typing import DTypeLike

from mnistjax.disk import storage_errors, write_whole
from mnistjax.errors import StorageError

RECORD_VERSION = 1


class RowFile:
    """`<name>.npy` and `record.json` in `directory`: rows, and digests of blocks of them.

    Opening it reads every recorded row back against its SHA-256 (0.9 s for 1.1 GB in memory);
    `rows` are those before the first block that differs. A context manager: leaving it records
    the rows written so far. Raises `StorageError` for what the disk refuses.
    """

    def __init__(
        self, directory: Path, shape: tuple[int, ...], dtype: DTypeLike, *, name: str
    ) -> None:
        self._directory, self._shape, self._dtype = directory, shape, np.dtype(dtype)
        self._path, self._record = directory / f"{name}.npy", directory / "record.json"
        with storage_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
            there = self._record.exists()
            recorded = self._read_record()
            self._blocks = self._intact(recorded)
            self.damaged = there and (not recorded or len(self._blocks) < len(recorded))
            """Whether the record or rows of it are no longer what they were."""
            if self.rows < shape[0]:
                self._check_space()
            if not self._blocks:
                self._create()
            self._offset = np.load(self._path, mmap_mode="r").offset
            self._file = self._path.open("r+b")
        self._written, self._digest = self.rows, hashlib.sha256()

    @property
    def rows(self) -> int:
        """Rows on disk and recorded."""
        return self._blocks[-1][0] if self._blocks else 0

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, once complete."""
        return nbytes(self._shape, self._dtype)

    def append(self, rows: Shaped[np.ndarray, "rows *row"]) -> None:
        """Write the next rows; they count once `commit` has recorded them."""
        with storage_errors(self._directory):
            # Not through the map: there a full disk is a SIGBUS, here an OSError.
            self._file.seek(self._offset + self._written * nbytes(self._shape[1:], self._dtype))
            self._file.write(data := np.ascontiguousarray(rows).data)
            self._file.flush()
        self._digest.update(data)
        self._written += len(rows)

    def commit(self) -> None:
        """Make the rows written last, then record them with their digest."""
        if self._written == self.rows:
            return
        with storage_errors(self._directory):
            os.fsync(self._file.fileno())
            blocks = [*self._blocks, (self._written, self._digest.hexdigest())]
            self._write_record(blocks)
        self._blocks, self._digest = blocks, hashlib.sha256()

    def read(self) -> Shaped[np.ndarray, "n *row"]:
        """All rows as a read-only memory map. The record's time is that of the last use."""
        with storage_errors(self._directory):
            os.utime(self._record)
            return np.load(self._path, mmap_mode="r")

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.commit()
        finally:
            with storage_errors(self._directory):  # closing tries once more to write
                self._file.close()

    def _read_record(self) -> list[tuple[int, str]]:
        """Blocks as (rows up to its end, SHA-256); none when the record is of no use."""
        try:
            record = json.loads(self._record.read_text())
            if (record["version"], record["shape"]) != (RECORD_VERSION, list(self._shape)):
                return []
            blocks = [(int(end), str(digest)) for end, digest in record["blocks"]]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return []
        ends = [0, *(end for end, _ in blocks)]
        rising = all(a < b for a, b in zip(ends, ends[1:], strict=False))
        return blocks if rising and ends[-1] <= self._shape[0] else []

    def _intact(self, blocks: list[tuple[int, str]]) -> list[tuple[int, str]]:
        try:
            rows = np.load(self._path, mmap_mode="r") if blocks else None
        except Exception:  # a damaged header makes np.load raise nearly anything
            return []
        if rows is None or (rows.shape, rows.dtype) != (self._shape, self._dtype):
            return []
        if not rows.flags.c_contiguous:
            return []
        start = 0
        for index, (end, digest) in enumerate(blocks):
            if hashlib.sha256(rows[start:end]).hexdigest() != digest:
                return blocks[:index]
            start = end
        return blocks

    def _create(self) -> None:
        """A file of the final size, sparse. Never cut in place: a reader may have mapped it."""
        self._record.unlink(missing_ok=True)
        part = self._path.with_name(f"{self._path.name}.part")
        np.lib.format.open_memmap(part, mode="w+", dtype=self._dtype, shape=self._shape)
        part.replace(self._path)

    def _write_record(self, blocks: list[tuple[int, str]]) -> None:
        record = {"version": RECORD_VERSION, "shape": self._shape, "blocks": blocks}
        write_whole(self._record, json.dumps(record))

    def _check_space(self) -> None:
        needed = self.nbytes - self.rows * nbytes(self._shape[1:], self._dtype)
        free = shutil.disk_usage(self._directory).free
        if needed > free:
            why = f"{self._path.stem} need {needed:,} bytes more, {free:,} are free"
            fix = "free some, or name another place by MNISTJAX_CACHE"
            raise StorageError(str(self._directory), why, fix=fix)


def nbytes(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    """Bytes of an array.

    >>> nbytes((2, 3), "float32")
    24
    """
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
