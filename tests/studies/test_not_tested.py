from __future__ import annotations

from assay.studies.not_tested import BY_ATTACK, RECONSTRUCTION, STANDING, not_tested, not_tested_of_encoders


def test_the_standing_list_is_always_there() -> None:
    probes = ("clean-accuracy", "calibration", "certified-accuracy", "private-training")
    everything = [{"probe": name, "settings": {}} for name in probes]
    everything += [{"probe": "robust-accuracy", "settings": {"norm": norm}} for norm in ("linf", "l2", "l1")]
    assert not_tested(everything, strata=True, limited=None) == [BY_ATTACK, *STANDING]


def test_an_attack_on_membership_leaves_reconstruction_open() -> None:
    for name in ("membership-inference", "canary-inference"):
        points = not_tested([{"probe": name, "settings": {}}], strata=True, limited=None)
        assert RECONSTRUCTION in points
        assert BY_ATTACK not in points


def test_what_is_missing_is_said() -> None:
    points = not_tested([{"probe": "robust-accuracy", "settings": {"norm": "linf"}}], strata=False, limited=64)
    text = " ".join(points)
    said = ("bounded in L2", "bounded in L1", "Accuracy on unchanged", "Calibration", "groups", "first 64")
    for words in (*said, "Certified", "Differential privacy"):
        assert words in text
    assert "bounded in Linf" not in text


def test_only_a_search_for_errors_counts_for_its_norm() -> None:
    def open_points(name: str, **settings: object) -> str:
        return " ".join(not_tested([{"probe": name, "settings": settings}], strata=True, limited=None))

    assert "bounded in L2" not in open_points("margins", norm="l2", temperature=None)
    assert "bounded in L2" in open_points("margins", norm="l2", temperature=5.0)
    assert "bounded in L2" in open_points("boundary-dynamics", norm="l2")


def test_encoders() -> None:
    points = not_tested_of_encoders(["segmentation", "embedding"], norm="linf", names=["scenes", "scenes"])
    assert "Perturbations bounded in L2." in points
    assert "Perturbations bounded in Linf." not in points
    assert "The task depth." in points
    assert "The task segmentation." not in points
    assert "Images unlike those of scenes." in points
    assert set(STANDING) <= set(points)
