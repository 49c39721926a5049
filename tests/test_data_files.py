"""Image data in their original formats, whole and broken."""

import gzip
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest

from meanfield.empirical import load_cifar10, load_mnist, task

RANDOM = np.random.default_rng(0)
IMAGES = {
    "train": RANDOM.integers(0, 256, (12, 5, 4), np.uint8),
    "t10k": RANDOM.integers(0, 256, (6, 5, 4), np.uint8),
}
LABELS = {"train": np.arange(12, dtype=np.uint8) % 10, "t10k": np.arange(6, dtype=np.uint8)}
TRAIN_BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(directory, zipped=False):
    for part in IMAGES:
        for kind, array in (("images-idx3", IMAGES[part]), ("labels-idx1", LABELS[part])):
            name = f"{part}-{kind}-ubyte"
            data = idx(array)
            (directory / (name + ".gz" * zipped)).write_bytes(gzip.compress(data) if zipped else data)


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_is_read_plain_or_zipped(tmp_path, zipped):
    write_mnist(tmp_path, zipped)
    (train, train_labels), (test, test_labels) = load_mnist(tmp_path)
    np.testing.assert_array_equal(train[..., 0], IMAGES["train"])
    np.testing.assert_array_equal(test_labels, LABELS["t10k"])
    assert train.shape == (12, 5, 4, 1) and test.shape == (6, 5, 4, 1) and train_labels.dtype == np.int32
    made = task("fashion-mnist", tmp_path)
    assert made.features == 20 and made.data(None)[0].inputs.std() == pytest.approx(1, rel=1e-5)


def cifar_rows(count, seed):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3072), np.uint8), random.integers(0, 10, count).astype(np.uint8)


def cifar_files(version):
    files = {}
    for seed, name in enumerate([*TRAIN_BATCHES, "test_batch"]):
        rows, labels = cifar_rows(4, seed)
        if version == "binary":
            files[f"{name}.bin"] = np.column_stack([labels, rows]).tobytes()
        else:
            files[name] = pickle.dumps({b"data": rows, b"labels": labels.tolist()}, protocol=2)
    return files


@pytest.mark.parametrize("place", ["files", "folder", "archive"])
@pytest.mark.parametrize(
    ("version", "folder"), [("binary", "cifar-10-batches-bin"), ("python", "cifar-10-batches-py")]
)
def test_cifar10_is_read_in_both_versions_packed_or_not(tmp_path, version, folder, place):
    files = cifar_files(version)
    if place == "archive":
        with tarfile.open(tmp_path / f"cifar-10-{version}.tar.gz", "w:gz") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    else:
        where = tmp_path / folder if place == "folder" else tmp_path
        where.mkdir(exist_ok=True)
        for name, data in files.items():
            (where / name).write_bytes(data)
    (train, labels), (test, _) = load_cifar10(tmp_path)
    rows, expected = cifar_rows(4, 1)
    assert train.shape == (20, 32, 32, 3) and test.shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(labels[4:8], expected)
    assert train[4, 2, 3, 1] == rows[0, 1024 + 2 * 32 + 3]  # red, green and blue planes, row by row


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train-images-idx3-ubyte", lambda d: d[:-1], "is truncated: 240 bytes of data expected, 239 found"),
        ("train-images-idx3-ubyte", lambda d: d[:3], "is truncated: its header"),
        ("train-images-idx3-ubyte", lambda d: d + b"x", "is longer than its header says"),
        ("train-images-idx3-ubyte", lambda d: b"\x89PNG" + d, "is not an IDX file"),
        ("t10k-labels-idx1-ubyte", lambda d: d[:-1] + b"\x0b", "has a label 11"),
        ("t10k-labels-idx1-ubyte", lambda d: idx(LABELS["train"]), "6 images and .* 12 labels"),
        ("t10k-labels-idx1-ubyte", lambda d: idx(LABELS["train"][:0]), "is empty"),
    ],
)
def test_a_broken_mnist_file_is_named(tmp_path, name, change, message):
    write_mnist(tmp_path)
    path = tmp_path / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        load_mnist(tmp_path)
    assert name in str(caught.value)


def test_a_truncated_zip_is_named(tmp_path):
    write_mnist(tmp_path, zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz is truncated or not a gzip file"):
        load_mnist(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte or train-images-idx3-ubyte\.gz"):
        load_mnist(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"cifar-10-binary.tar.gz"):
        load_cifar10(tmp_path)
    for name, data in cifar_files("binary").items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_3.bin"):
        load_cifar10(tmp_path)


class _Harmful:
    def __reduce__(self):
        return (print, ("ran",))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps({b"data": np.zeros((2, 9), np.uint8), b"labels": [1, 2]}), "shapes"),
        (pickle.dumps({b"x": 1}), "truncated or not a CIFAR-10 file"),
        (b"\x80\x02}q", "truncated or not a CIFAR-10 file"),
        (pickle.dumps(_Harmful()), "it asks for builtins.print"),
    ],
)
def test_a_broken_cifar_file_is_named_and_nothing_in_it_is_run(tmp_path, data, message, capsys):
    for name, content in cifar_files("python").items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "data_batch_2").write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        load_cifar10(tmp_path)
    assert "data_batch_2" in str(caught.value) and capsys.readouterr().out == ""


def test_a_truncated_binary_batch_or_archive_is_named(tmp_path):
    for name, data in cifar_files("binary").items():
        (tmp_path / name).write_bytes(data[:-1] if name == "test_batch.bin" else data)
    with pytest.raises(ValueError, match=r"test_batch.bin is truncated"):
        load_cifar10(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b not really")
    with pytest.raises(ValueError, match=r"cifar-10-python.tar.gz is truncated or not"):
        load_cifar10(other)
