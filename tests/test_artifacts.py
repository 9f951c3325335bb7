"""Artefacts are written whole or not at all, and what is damaged is not trusted."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrepair.errors import RepairError
from modelrepair.pipeline import artifacts
from modelrepair.pipeline.artifacts import (
    output_file,
    output_folder,
    read_array,
    read_curve,
    read_json,
    read_table,
    read_tensors,
    write_array,
    write_array_of_pieces,
    write_json,
    write_table,
    write_tensors,
)

TABLE = pd.DataFrame(
    {
        "example": np.arange(40),
        "split": ["train", "validation"] * 20,
        "is_corrupted": np.arange(40) % 3 == 0,
        "score": np.linspace(-1, 1, 40),
    }
)
TENSORS = {"fc.weight": torch.arange(12.0).view(3, 4), "fc.bias": torch.ones(3, dtype=torch.float64)}
ARRAY = np.arange(600, dtype=np.float32).reshape(20, 30)


def write_pieces(path: Path, array: Any) -> None:
    write_array_of_pieces(path, array.shape[1:], array.dtype, iter(np.split(array, 4)))


FORMATS: dict[str, tuple[str, Callable[[Path, Any], None], Any, Callable[[Path], Any]]] = {
    "array": ("a.npy", write_array, ARRAY, read_array),
    "pieces": ("p.npy", write_pieces, ARRAY, read_array),
    "table": ("t.parquet", write_table, TABLE, read_table),
    "json": ("j.json", write_json, {"a": [1.5, "é"], "b": {"c": True}}, read_json),
    "tensors": ("w.safetensors", write_tensors, TENSORS, read_tensors),
}
each_format = pytest.mark.parametrize("format_", FORMATS)


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_folder_appears_whole_and_replaces_the_previous_one(tmp_path: Path) -> None:
    target = tmp_path / "models" / "base"
    for content in ("first", "second"):
        with output_folder(target) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / content).write_text(content)
            assert folder.parent == target.parent
            assert not (target / "sub" / content).exists()
        assert [path.name for path in (target / "sub").iterdir()] == [content]
    assert hidden(target.parent) == []
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, OSError])
def test_failure_leaves_the_previous_artefact(tmp_path: Path, failure: type[BaseException]) -> None:
    target, file = tmp_path / "base", tmp_path / "metrics.json"
    with output_folder(target) as folder:
        (folder / "old").touch()
    file.write_text("old")

    def fail_in_folder() -> None:
        with output_folder(target) as folder:
            (folder / "new").touch()
            raise failure

    def fail_in_file() -> None:
        with output_file(file) as temporary:
            temporary.write_text("new")
            raise failure

    with pytest.raises(failure):
        fail_in_folder()
    with pytest.raises(failure):
        fail_in_file()
    assert [path.name for path in target.iterdir()] == ["old"]
    assert file.read_text() == "old"
    assert hidden(tmp_path) == []


def test_swap_works_where_the_system_cannot_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_exchange", lambda first, second: False)
    test_folder_appears_whole_and_replaces_the_previous_one(tmp_path)


def test_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    file = tmp_path / "new" / "summary.json"
    for content in ("first", "second"):
        with output_file(file) as temporary:
            assert temporary.name == file.name
            temporary.write_text(content)
        assert file.read_text() == content
    assert hidden(file.parent) == []


def test_killed_writer_leaves_nothing_in_sight_and_the_next_cleans_up(tmp_path: Path) -> None:
    target = tmp_path / "base"
    code = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from modelrepair.pipeline.artifacts import output_folder
        with output_folder(Path({str(target)!r})) as folder:
            (folder / "half").write_text("written")
            print("writing", flush=True)
            time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with output_folder(target):
            pass
        assert len(hidden(tmp_path)) == 1, "a living writer's folder is left alone"
        writer.send_signal(signal.SIGKILL)
    assert len(hidden(tmp_path)) == 1
    with output_folder(tmp_path / "bas"):
        pass
    assert len(hidden(tmp_path)) == 1, "another path's leftovers are left alone"
    with output_folder(target):
        pass
    assert hidden(tmp_path) == []


@each_format
def test_round_trip_and_equal_bytes(tmp_path: Path, format_: str) -> None:
    name, write, content, read = FORMATS[format_]
    write(tmp_path / name, content)
    back = read(tmp_path / name)
    if format_ in ("array", "pieces"):
        assert isinstance(back, np.memmap)
        assert not back.flags.writeable
        np.testing.assert_array_equal(back, content)
    elif format_ == "table":
        pd.testing.assert_frame_equal(back, content)
    elif format_ == "tensors":
        assert back.keys() == content.keys()
        assert all(torch.equal(back[key], content[key]) for key in content)
        content = dict(reversed(content.items()))
    else:
        assert back == content
    write(tmp_path / f"again-{name}", content)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()


@each_format
def test_missing_file(tmp_path: Path, format_: str) -> None:
    name, _, _, read = FORMATS[format_]
    with pytest.raises(RepairError, match=rf"{name} is missing: run `dvc checkout`"):
        read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(RepairError, match="should be a file"):
        read(tmp_path / name)


@each_format
def test_truncated_file(tmp_path: Path, format_: str) -> None:
    name, write, content, read = FORMATS[format_]
    path = tmp_path / name
    write(path, content)
    whole = path.read_bytes()
    # JSON stays whole without its final newline.
    shortest_loss = 2 if format_ == "json" else 1
    lengths = {0, 1, 5, 9, 60, *np.linspace(0, len(whole) - shortest_loss, 40).astype(int).tolist()}
    for length in sorted(length for length in lengths if length <= len(whole) - shortest_loss):
        path.write_bytes(whole[:length])
        with pytest.raises(RepairError, match=rf"{name} is truncated or damaged .*dvc repro -f") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@each_format
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_file_is_read_or_refused_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, format_: str, data: st.DataObject
) -> None:
    name, write, content, read = FORMATS[format_]
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    write(path, content)
    damaged = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=3)):
        damaged[position] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        read(path)
    except RepairError as error:
        assert "truncated or damaged" in str(error)  # noqa: PT017


def test_flipped_byte_in_a_table_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, pd.DataFrame({"score": np.random.default_rng(0).normal(size=1000)}))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(RepairError, match="truncated or damaged"):
        read_table(path)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.array(2.5),
        np.asfortranarray(ARRAY),
        ARRAY[::2, ::3],
        np.array(["train", "é"]),
        np.array([True, False]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
    ],
    ids=["empty", "scalar", "fortran", "strided", "text", "truth", "dates"],
)
def test_every_kind_of_array(tmp_path: Path, array: Any) -> None:
    write_array(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), array)
    assert read_array(tmp_path / "a.npy").dtype == array.dtype


def test_nothing_is_pickled_or_unpickled(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}, None], dtype=object)
    with pytest.raises(RepairError, match="Python objects"):
        write_array(tmp_path / "a.npy", objects)
    np.save(tmp_path / "b.npy", objects, allow_pickle=True)
    with pytest.raises(RepairError, match="truncated or damaged"):
        read_array(tmp_path / "b.npy")


CURVE = "round,loss,accuracy,returned\n0,,0.5,False\n1,0.25,,True\n10,0.125,0.75,False\n"


def curve(path: Path) -> pd.DataFrame:
    return read_curve(path, round="int64", returned="bool")


def test_curves_are_numbers_and_truth_values(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(CURVE)
    expected = pd.DataFrame(
        {
            "round": [0, 1, 10],
            "loss": [np.nan, 0.25, 0.125],
            "accuracy": [0.5, np.nan, 0.75],
            "returned": [False, True, False],
        }
    )
    pd.testing.assert_frame_equal(curve(path), expected)
    path.write_text("epoch\n3\n")
    assert curve(path)["epoch"].tolist() == [3], "types are those of the columns that are there"
    path.unlink()
    with pytest.raises(RepairError, match=r"c\.csv is missing: run `dvc checkout`, or `dvc repro -f`"):
        curve(path)


DAMAGED_CURVES = {
    "empty": "",
    "no rows": CURVE.splitlines()[0],
    "half": CURVE[: len(CURVE) // 2],
    "all but a value": CURVE[:-4],
    "text": CURVE.replace("0.25", "much"),
    "half a round": CURVE.replace("10,", "1.5,"),
    "no round": CURVE.replace("10,", ","),
    "no mark": CURVE.replace("True", ""),
    "a value more": CURVE.replace("True", "True,3"),
    "a column more": CURVE.replace("False", "False,3").replace("True", "True,3"),
    "a quote": CURVE.replace("round", '"round'),
    "another format": "<html>\n<body>a, b</body>\n</html>\n",
    "zeros": "round\0\n\0\n",
    "no text": "\ud800",
}


@pytest.mark.parametrize("name", DAMAGED_CURVES)
def test_curves_that_cannot_be(tmp_path: Path, name: str) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(DAMAGED_CURVES[name].encode("utf-8", "surrogatepass"))
    with pytest.raises(RepairError, match=r"c\.csv is truncated or damaged .*dvc repro -f") as caught:
        curve(path)
    assert "\n" not in str(caught.value)


def test_json_has_no_nan_and_keeps_the_order(tmp_path: Path) -> None:
    path = tmp_path / "j.json"
    content = {"z": float("nan"), "a": np.float32(0.5), "m": (np.inf, np.arange(2)), "n": np.bool_(True)}
    write_json(path, content)
    assert path.read_text().endswith("}\n")
    plain = json.loads(path.read_text())
    assert list(plain) == ["z", "a", "m", "n", "checksum"]
    del plain["checksum"]
    assert plain == {"z": None, "a": 0.5, "m": [None, [0, 1]], "n": True}
    assert list(read_json(path)) == ["z", "a", "m", "n"]


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    vector = torch.arange(10.0, requires_grad=True)
    pieces = {
        "a": vector[:4].view(2, 2),
        "b": vector[4:],
        "whole": vector,
        "twice": vector,
        "t": vector.view(2, 5).T,
    }
    write_tensors(tmp_path / "w.safetensors", pieces)
    back = read_tensors(tmp_path / "w.safetensors")
    assert all(torch.equal(back[name], piece) for name, piece in pieces.items())


def write_everything(target: Path) -> None:
    """More than 2 MB in each of the four formats, the last one that fits replacing `target`."""
    many = np.random.default_rng(0).normal(size=300_000)
    writers: dict[str, Callable[[Path], None]] = {
        "npy": lambda path: write_array(path, many),
        "parquet": lambda path: write_table(path, pd.DataFrame({"score": many})),
        "json": lambda path: write_json(path, many),
        "safetensors": lambda path: write_tensors(path, {"score": torch.from_numpy(many)}),
    }
    for suffix, write in writers.items():
        with pytest.raises(RepairError, match=r"exhausted .*make room"), output_folder(target) as folder:
            write(folder / f"scores.{suffix}")
        with pytest.raises(RepairError, match="earlier artefacts are untouched"), output_file(target) as file:
            write(file)
        assert [path.name for path in target.iterdir()] == ["old"]
        assert hidden(target.parent) == []


def test_full_quota_leaves_the_previous_artefact(tmp_path: Path) -> None:
    with output_folder(tmp_path / "base") as folder:
        (folder / "old").touch()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        write_everything(tmp_path / "base")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def in_small_mount(folder: Path, options: str, code: str) -> None:
    """Run Python code on a file system of its own in `folder`; skip where this user cannot make one."""
    unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o {options} tmpfs {folder}"
    if shutil.which("unshare") is None or subprocess.run([*unshare, mount], capture_output=True).returncode:
        pytest.skip("this user cannot mount a small file system (unshare --map-root-user --mount)")
    script = folder.parent / "script.py"
    script.write_text(textwrap.dedent(code))
    shell = f"{mount} && exec {sys.executable} {script} {folder}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    result = subprocess.run([*unshare, shell], capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr


def test_full_disk_leaves_the_previous_artefact(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    in_small_mount(
        tmp_path / "disk",
        "size=1m",
        """
        import sys
        from pathlib import Path
        from test_artifacts import write_everything
        base = Path(sys.argv[1]) / "base"
        base.mkdir()
        (base / "old").write_text("old")
        write_everything(base)
        assert (base / "old").read_text() == "old"
        """,
    )


def test_read_only_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    in_small_mount(
        tmp_path / "disk",
        "ro",
        """
        import sys
        from pathlib import Path
        from modelrepair.pipeline.artifacts import output_file, output_folder
        from modelrepair.errors import RepairError
        for output in (output_file, output_folder):
            for path in (Path(sys.argv[1]) / "base", Path(sys.argv[1]) / "new" / "base"):
                try:
                    with output(path):
                        raise AssertionError
                except RepairError as error:
                    assert "could not be written (Read-only file system)" in str(error), error
        """,
    )


def test_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    for output in (output_folder, output_file):
        for path in (tmp_path / "data" / "base", tmp_path / "data" / "deeper" / "base"):
            with pytest.raises(RepairError, match=r"could not be written .*may write"), output(path):
                pytest.fail("nothing should be written")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RepairError, match="could not be written"), output_file(tmp_path / "folder") as file:
        file.touch()
    assert hidden(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RepairError, match="could not be written"), output_folder(tmp_path / "base"):
            pytest.fail("nothing should be written")
    finally:
        tmp_path.chmod(0o700)


def test_errors_about_other_files_come_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), output_folder(tmp_path / "base"):
        (tmp_path / "absent").read_text()
    with pytest.raises(FileExistsError), output_folder(tmp_path / "base") as folder:
        folder.mkdir()
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("name", ["a.npy", "t.parquet", "j.json", "x.safetensors"])
def test_a_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    """In the middle of the content, where no format's own structure is."""
    path = tmp_path / name
    writers: dict[str, tuple[Any, Any, Any]] = {
        "a.npy": (write_array, read_array, np.arange(1000)),
        "t.parquet": (
            write_table,
            read_table,
            pd.DataFrame({"x": np.random.default_rng(0).normal(size=1000)}),
        ),
        "j.json": (write_json, read_json, {"rate": 0.25, "names": ["one", "two"]}),
        "x.safetensors": (write_tensors, read_tensors, {"w": torch.arange(1000.0)}),
    }
    write, read, content = writers[name]
    write(path, content)
    read(path)
    raw = bytearray(path.read_bytes())
    place = raw.index(b"0.25") + 2 if name == "j.json" else len(raw) // 2
    raw[place] ^= 1
    path.write_bytes(raw)
    with pytest.raises(RepairError, match="truncated or damaged"):
        read(path)


def test_an_array_is_what_numpy_reads(tmp_path: Path) -> None:
    write_array(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("sizes", [[], [0], [20], [7, 0, 13], [1] * 20])
def test_an_array_in_pieces_is_the_array(tmp_path: Path, sizes: list[int]) -> None:
    """To the byte: also the number of rows at its head, which is not known when that is written."""
    array = ARRAY[: sum(sizes)]
    pieces = np.split(array, np.cumsum(sizes)[:-1]) if sizes else []
    write_array(tmp_path / "whole.npy", array)
    write_array_of_pieces(tmp_path / "pieces.npy", ARRAY.shape[1:], ARRAY.dtype, iter(pieces))
    assert (tmp_path / "pieces.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    if sum(sizes):
        np.testing.assert_array_equal(read_array(tmp_path / "pieces.npy"), array)


def test_weights_may_be_read_by_whoever_may_read_the_rest(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"w": torch.ones(2)})
    write_json(tmp_path / "j.json", {})
    modes = {name: (tmp_path / name).stat().st_mode for name in ("x.safetensors", "j.json")}
    assert len(set(modes.values())) == 1
