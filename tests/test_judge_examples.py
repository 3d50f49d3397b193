"""The examples of `docs/judge.md` write files that `judge` reads."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
import yaml

import fer_augment as fa
from tests.data_files import encoded
from tests.markdown import DOCS, blocks_of

CLASSES = ("ant", "bee", "cat")
ROWS = 30
LABELS = np.arange(ROWS) % 3
IDS = [f"{row}.png" for row in range(ROWS)]


@pytest.fixture
def run_example(tmp_path, monkeypatch):
    """Return a function that runs the example of a section with some names and returns the comparison."""
    monkeypatch.chdir(tmp_path)

    def run(section: str, **names) -> fa.Comparison:
        (block,) = [one for one in blocks_of(DOCS / "judge.md") if (one.section, one.language) == (section, "python")]
        exec(compile(block.text, f"judge.md:{block.line}", "exec", dont_inherit=True), names)
        return fa.judge("predictions/*.npz", baseline="plain", pattern="{arm}_seed{seed}.npz", progress=False)

    return run


def assert_judged(comparison: fa.Comparison, expected: np.ndarray) -> None:
    """Assert classes, images, and that the accuracy is that of `(N, K)` scores."""
    (arm,) = comparison.arms
    assert comparison.class_names == CLASSES
    assert arm.test.rows == ROWS and arm.test.nll.n == 1
    assert arm.test.accuracy.mean == pytest.approx((expected.argmax(axis=1) == LABELS).mean())


def network_and_loader(seed=0):
    import torch
    from torch.utils.data import DataLoader

    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    images = torch.randn(ROWS, 3, 2, 2)
    rows: Any = list(zip(images, LABELS.tolist(), IDS, strict=True))
    with torch.no_grad():
        logits = network(images).numpy()
    return network, DataLoader(rows, batch_size=8), logits


def test_the_session_from_python():
    (block,) = [one for one in blocks_of(DOCS / "judge.md") if one.language == "pycon"]
    session = doctest.DocTestParser().get_doctest(block.text, {}, block.section, None, block.line)
    report: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(session, out=report.append)
    assert result.attempted and not result.failed, "".join(report)


def test_pytorch(run_example):
    network, loader, logits = network_and_loader()
    assert_judged(run_example("PyTorch", network=network, test_loader=loader, class_names=CLASSES), logits)


@pytest.mark.filterwarnings("ignore")
def test_lightning(run_example, tmp_path):
    lightning: Any = pytest.importorskip("lightning", reason="Lightning is not installed (extra bench)")
    network, loader, logits = network_and_loader()

    class Module(lightning.LightningModule):  # type: ignore[misc] # is not always installed
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(images)

        def test_step(self, batch, batch_idx):
            return None

    trainer = lightning.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", default_root_dir=tmp_path,
    )  # fmt: skip
    names = {"trainer": trainer, "module": Module(), "test_loader": loader, "class_names": CLASSES}
    assert_judged(run_example("Lightning", **names), logits)


@pytest.mark.filterwarnings("ignore")
def test_timm(run_example, tmp_path):
    try:
        timm = fa.import_with_torchvision("timm")  # then the example can import it beside any torchvision
    except ImportError:
        pytest.skip("timm is not installed")
    import torch

    torch.manual_seed(0)
    torch.save(timm.create_model("resnet18", num_classes=3).state_dict(), tmp_path / "model.pth")
    rng = np.random.default_rng(0)
    for row, label in enumerate(LABELS):
        path = tmp_path / "test" / CLASSES[label] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)))
    names = {"checkpoint": str(tmp_path / "model.pth"), "folder": str(tmp_path / "test"), "class_names": CLASSES}
    comparison = run_example("timm", **names)
    assert comparison.class_names == CLASSES and comparison.arms[0].test.rows == ROWS
    assert comparison.data.counts["test"] == dict.fromkeys(CLASSES, ROWS // 3)


def test_scikit_learn(run_example):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.naive_bayes import GaussianNB

    features = np.random.default_rng(0).normal(size=(ROWS, 4)) + LABELS[:, None]
    labels = np.array(CLASSES)[LABELS]
    classifier = GaussianNB().fit(features, labels)
    names = {"classifier": classifier, "features": features, "labels": labels, "ids": np.array(IDS)}
    assert_judged(run_example("scikit-learn", **names), classifier.predict_proba(features))


def test_the_workflow_is_yaml_with_a_step_that_judges():
    (block,) = [one for one in blocks_of(DOCS / "judge.md") if one.language == "yaml"]
    steps = yaml.safe_load(block.text)["jobs"]["judge"]["steps"]
    assert "--format github --fail-on worse" in steps[-1]["run"]
