"""MNIST, Fashion-MNIST and CIFAR-10 from local files in their original formats."""

import gzip
import io
import math
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np

_IDX_BYTES = 0x08  # the type code of unsigned bytes
_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_RECORD = 1 + math.prod(_CIFAR_SHAPE)
_CIFAR_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))

Images = tuple[np.ndarray, np.ndarray]  # (count, height, width, channels) bytes, and labels


def load_mnist(directory) -> tuple[Images, Images]:
    """Training and test images and labels of MNIST or Fashion-MNIST, which share a format.

    directory: holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the same two of
    t10k, each as it is or with .gz. Images have shape (count, height, width, 1), bytes.

    Raises FileNotFoundError naming what is missing, ValueError for a file that is
    truncated, not in the format, or does not belong to the others.
    """
    directory = _directory(directory)
    return _idx_pair(directory, "train"), _idx_pair(directory, "t10k")


def load_cifar10(directory) -> tuple[Images, Images]:
    """Training and test images and labels of CIFAR-10, in its binary or its Python version.

    directory: holds the archive (cifar-10-binary.tar.gz or cifar-10-python.tar.gz), the
    folder it unpacks to, or that folder's files. Images have shape (count, 32, 32, 3).
    Nothing in a pickled file is run. Raises as ``load_mnist``.
    """
    directory = _directory(directory)
    for suffix, folder, archive, read in (
        (".bin", "cifar-10-batches-bin", "cifar-10-binary.tar.gz", _cifar_binary),
        ("", "cifar-10-batches-py", "cifar-10-python.tar.gz", _cifar_pickle),
    ):
        for place in (directory, directory / folder):
            if (place / f"test_batch{suffix}").is_file():
                files = {name: place / f"{name}{suffix}" for name in (*_CIFAR_TRAIN, "test_batch")}
                return _cifar({name: (_contents(path), path) for name, path in files.items()}, read)
        if (directory / archive).is_file():
            names = {name: f"{folder}/{name}{suffix}" for name in (*_CIFAR_TRAIN, "test_batch")}
            return _cifar(_members(directory / archive, names), read)
    raise FileNotFoundError(
        f"no CIFAR-10 in {directory}: cifar-10-binary.tar.gz, cifar-10-python.tar.gz "
        "or the files test_batch.bin or test_batch and those beside it are needed"
    )


def _directory(directory) -> Path:
    path = Path(directory).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"there is no directory {path}")
    return path


def _contents(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    data = path.read_bytes()
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is truncated or not a gzip file: {error}") from error


# --- MNIST -------------------------------------------------------------------


def _idx_pair(directory: Path, part: str) -> Images:
    images, where = _idx(directory, f"{part}-images-idx3-ubyte", 3)
    labels, where_labels = _idx(directory, f"{part}-labels-idx1-ubyte", 1)
    if len(images) != len(labels):
        raise ValueError(
            f"{where} has {len(images)} images and {where_labels} {len(labels)} labels: "
            "they do not belong together"
        )
    return images[..., None], _labels(labels, where_labels)


def _idx(directory: Path, name: str, rank: int) -> tuple[np.ndarray, Path]:
    spellings = [name, name.replace("-idx", ".idx")]
    found = [p for n in spellings for p in (directory / n, directory / f"{n}.gz") if p.is_file()]
    if not found:
        raise FileNotFoundError(f"there is no file {name} or {name}.gz in {directory}")
    path = found[0]
    data = _contents(path)
    header = 4 + 4 * rank
    if len(data) < header:
        raise ValueError(f"{path} is truncated: its header alone takes {header} bytes, it has {len(data)}")
    if data[:2] != b"\0\0" or data[2] != _IDX_BYTES or data[3] != rank:
        raise ValueError(f"{path} is not an IDX file of bytes with {rank} axes: it starts {data[:4].hex()}")
    shape = tuple(int(n) for n in np.frombuffer(data[4:header], ">u4"))
    size = math.prod(shape)
    if len(data) - header != size:
        problem = "is truncated" if len(data) - header < size else "is longer than its header says"
        raise ValueError(f"{path} {problem}: {size} bytes of data expected, {len(data) - header} found")
    if size == 0:
        raise ValueError(f"{path} is empty: its header says {shape}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape), path


def _labels(labels: np.ndarray, path) -> np.ndarray:
    if labels.size and labels.max() > 9:
        raise ValueError(f"{path} has a label {labels.max()}: labels go from 0 to 9")
    return labels.astype(np.int32)


# --- CIFAR-10 ----------------------------------------------------------------


def _members(archive: Path, names: dict[str, str]) -> dict[str, tuple[bytes, str]]:
    try:
        with tarfile.open(archive) as tar:
            return {name: (_member(tar, archive, path), f"{archive}:{path}") for name, path in names.items()}
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{archive} is truncated or not a tar.gz archive: {error}") from error


def _member(tar: tarfile.TarFile, archive: Path, path: str) -> bytes:
    try:
        file = tar.extractfile(path)
    except KeyError:
        raise FileNotFoundError(f"there is no file {path} in {archive}") from None
    if file is None:
        raise ValueError(f"{path} in {archive} is not a file")
    return file.read()


def _cifar(files: dict, read) -> tuple[Images, Images]:
    parts = {name: read(data, where) for name, (data, where) in files.items()}
    train = [parts[name] for name in _CIFAR_TRAIN]
    images, labels = (np.concatenate(column) for column in zip(*train, strict=True))
    return (images, labels), parts["test_batch"]


def _cifar_binary(data: bytes, where) -> Images:
    if len(data) == 0 or len(data) % _CIFAR_RECORD:
        raise ValueError(
            f"{where} is truncated or not a CIFAR-10 file: {len(data)} bytes are no whole number "
            f"of records of {_CIFAR_RECORD}"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _CIFAR_RECORD)
    return _as_images(records[:, 1:]), _labels(records[:, 0], where)


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds NumPy arrays, and refuses to call anything else."""

    _ALLOWED = ("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer", "encode")

    def find_class(self, module, name):
        if name in self._ALLOWED and module.partition(".")[0] in ("numpy", "_codecs"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _cifar_pickle(data: bytes, where) -> Images:
    try:
        content = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
        images = np.asarray(content[b"data"], np.uint8)
        labels = np.asarray(content[b"labels"], np.uint8)
    except (
        pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError, ImportError,
        IndexError, OverflowError,
    ) as error:  # fmt: skip
        raise ValueError(f"{where} is truncated or not a CIFAR-10 file: {error}") from error
    if images.shape != (len(labels), _CIFAR_RECORD - 1):
        raise ValueError(f"{where} is not a CIFAR-10 file: shapes {images.shape} and {labels.shape}")
    return _as_images(images), _labels(labels, where)


def _as_images(rows: np.ndarray) -> np.ndarray:
    return np.moveaxis(rows.reshape(-1, *_CIFAR_SHAPE), 1, -1)
