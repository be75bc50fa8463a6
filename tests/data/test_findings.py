import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.data.crack import CrackData
from seglab.data.findings import N_IN_FULL, FaultsError, Finding, Findings
from seglab.errors import DataError


def fault(name: str) -> DataError:
    return DataError(f"{name} is bad", given="g", allowed="a", fix=f"mend {name}")


def refusal(what: str, given: str) -> DataError:
    return DataError(what, given=given, allowed="a", fix="f")


def refuse_odd(*numbers: int) -> None:
    findings = Findings()
    for number in numbers:
        with findings.noting():
            if number % 2:
                raise fault(f"file {number}")
    findings.settle()


def test_all_faults_are_told_after_the_last_item_and_one_alone_as_itself() -> None:
    refuse_odd(0, 2, 4)
    with pytest.raises(FaultsError, match="the data has 2 faults") as caught:
        refuse_odd(1, 2, 3, 4)
    assert [error.what for error in caught.value.errors] == ["file 1 is bad", "file 3 is bad"]
    assert "mend file 1" in str(caught.value) and "mend file 3" in str(caught.value)
    with pytest.raises(DataError, match=r"^file 1 is bad") as alone:
        refuse_odd(0, 1)
    assert not isinstance(alone.value, FaultsError)


def test_an_error_of_the_program_is_not_taken_for_a_fault_of_the_data() -> None:
    with pytest.raises(ZeroDivisionError), Findings().noting():
        _ = 1 // 0


def test_faults_reach_another_process_in_one_piece() -> None:
    faults = pickle.loads(pickle.dumps(FaultsError([fault("x"), fault("y")], "mend them")))
    assert [error.what for error in faults.errors] == ["x is bad", "y is bad"] and faults.fix == "mend them"


def test_faults_within_faults_are_flattened_and_told_once() -> None:
    findings = Findings()
    for errors in (["x", "y"], ["y", "z"]):
        with findings.noting():
            raise FaultsError([fault(name) for name in errors])
    assert [error.what for error in findings.errors] == ["x is bad", "y is bad", "z is bad"]


def test_a_long_report_names_every_file() -> None:
    n = N_IN_FULL + 30
    text = str(FaultsError([fault(f"f{number}") for number in range(n)]))
    assert all(f"f{number} is bad" in text for number in range(n))
    assert text.count("mend f") == N_IN_FULL


def test_a_data_set_reports_every_bad_image_and_mask_at_once(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "abcd":
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / folder / f"{name}.png")
    (tmp_path / "images/a.png").write_bytes(b"")
    (tmp_path / "images/b.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "masks/c.png")
    (tmp_path / "masks/b.png").write_bytes(b"")
    data = CrackData(root=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(FaultsError, match="4 faults") as caught:
        data.load()
    for name in (
        "images/a.png is empty",
        "images/b.png cannot",
        "masks/b.png is empty",
        "masks/c.png has another size",
    ):
        assert name in str(caught.value)
    assert "d.png" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("cases.json"))


def test_one_fault_of_many_pairs_is_one_kind_with_the_file_it_is_told_of_first() -> None:
    pairs = [(Path(f"/data/a/{name}.png"), Path(f"/data/m/{name}.png")) for name in ("1", "10")]
    sizes = [f"{mask} has another size than its image {image}" for image, mask in pairs]
    found = [Finding.of(refusal(what, "1x2"), pair) for what, pair in zip(sizes, pairs, strict=True)]
    assert {each.what for each in found} == {"has another size than its image"}
    assert [each.file for each in found] == [str(mask) for _, mask in pairs]
    empty = Finding.of(refusal(f"{pairs[0][1]} is empty", str(pairs[0][1])), pairs[0])
    assert (empty.what, empty.value, empty.file) == ("is empty", "", "/data/m/1.png")
    assert Finding.of(refusal("no images", "nothing"), ()).file == ""
