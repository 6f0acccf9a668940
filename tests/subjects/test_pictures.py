from __future__ import annotations

import numpy as np
import torch
from torch import nn

from assay.data.dataset import Dataset
from assay.subjects.examination import Examination
from assay.subjects.pictures import SHOWN, gallery
from assay.subjects.target import Target
from assay.subjects.tasks import Classification


def examination(count: int = 20) -> Examination:
    """The logits are the pixels, of images in [-1, 1]."""
    pixels = np.linspace(0, 1, count * 4, dtype=np.float32).reshape(count, 1, 2, 2)
    data = Dataset.from_arrays(pixels, np.zeros(count, int), class_names=("p", "q", "r", "s"), layout="NCHW")
    return Examination(target=Target(nn.Flatten(), task=Classification(4), bounds=(-1, 1)), data=data)


def test_what_the_model_said_before_and_after() -> None:
    seen = examination()
    changed = seen.images.flip(3)
    shown = gallery(seen, range(3, 20), changed, [0.25] * 20, "l2", title="T", caption="C")
    assert shown is not None
    assert len(shown.captions) == SHOWN
    first = shown.captions[0]
    before, after = seen.images[3].flatten().softmax(0), changed[3].flatten().softmax(0)
    assert (first["label"], first["before"], first["after"]) == ("p", "s", "r")
    torch.testing.assert_close(first["before_confidence"], float(before[3]))
    torch.testing.assert_close(first["after_confidence"], float(after[2]))
    assert (first["sample_id"], first["distance"], first["norm"]) == (3, 0.25, "l2")
    np.testing.assert_allclose(shown.original[0], (seen.images[3].numpy() + 1) / 2)
    np.testing.assert_allclose(shown.changed[0], (changed[3].numpy() + 1) / 2)


def test_a_class_may_be_named() -> None:
    seen = examination()
    shown = gallery(seen, [5], seen.images, [0.0] * 20, "linf", title="T", caption="C", after=[1] * 20)
    assert shown is not None
    assert shown.captions[0]["after"] == "q"
    torch.testing.assert_close(shown.captions[0]["after_confidence"], float(seen.images[5].flatten().softmax(0)[1]))


def test_nothing_to_show() -> None:
    seen = examination()
    assert gallery(seen, [], seen.images, [], "l2", title="T", caption="C") is None
    assert gallery(seen, [0], seen.images.flatten(1), [0.0], "l2", title="T", caption="C") is None
