import json
from pathlib import Path

import numpy as np
import pytest

from seglab.data.fingerprint import fingerprint, told
from seglab.data.lits import LitsData


def test_a_fingerprint_is_what_the_cases_hold_and_is_kept_beside_them(ct_root: Path, cache_dir: Path) -> None:
    data = LitsData(root=str(ct_root), cache_dir=str(cache_dir), num_workers=0).load()
    store = data.prepared
    found = fingerprint(store, data.class_names, has_background=True)
    pixels = np.array([record.class_pixels for record in store.records])
    assert found["n_cases"] == 8 and found["channels"] == 1
    assert found["shape"]["median"] == np.median([record.shape[1:] for record in store.records], axis=0).tolist()
    assert found["classes"]["tumour"]["pixels"] == pytest.approx(pixels[:, 2].sum() / pixels.sum())
    assert found["classes"]["tumour"]["cases"] == (pixels[:, 2] > 0).mean()
    values = np.concatenate(
        [
            store.image(record.id)[:][0][tuple(store.places(record.id, label).T)]
            for record in store.records
            for label in (1, 2)
        ]
    )
    (channel,) = found["foreground"]
    assert channel["percentiles"]["50.0"] == pytest.approx(np.median(values))
    assert (channel["mean"], channel["std"]) == (pytest.approx(values.mean()), pytest.approx(values.std()))
    file = store.folder / "fingerprint.json"
    assert json.loads(file.read_text())["classes"] == found["classes"]
    assert fingerprint(store, data.class_names, has_background=True) == found
    assert "8 cases" in told(found) and "tumour" in told(found)
