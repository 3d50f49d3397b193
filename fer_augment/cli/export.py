"""`fer-augment export`: export the network of a run, with a model card."""

from __future__ import annotations

from pathlib import Path

import click

from fer_augment.cli._finished_run import run_argument
from fer_augment.errors import display_name
from fer_augment.finished import load_run
from fer_augment.reports.console import messages, results

_FORMATS = ("onnx", "torch_export", "safetensors")


@click.command(no_args_is_help=True)
@run_argument
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="File to write.")
@click.option(
    "--format", "form", type=click.Choice(_FORMATS),
    help="Format of the file; default: by its suffix, .onnx, .pt2 or .safetensors.",
)  # fmt: skip
def export(run: Path, out: Path, form: str | None) -> None:
    r"""Export the network of a run, and write a model card beside it.

    RUN is the directory of a finished run, with or without the key at its end. The exported network takes images of
    exactly the size and the channels of the run's data, float32 of shape (batch, channels, height, width) in [0, 1],
    and returns logits, for any batch size. What the network needs for such images, such as normalization, is inside, as
    is an adjustment of logits that is linear; fitting other images to this size and color is not. The logits are
    compared with those of the run before the file is moved into place. The card has the same name and the suffix .md.

    \b
    fer-augment export results/runs/modern/seed-0 --out faces.onnx
    fer-augment export results/runs/modern/seed-0 --out faces.pt2
    """
    finished = load_run(run)
    with messages().status("Exporting and checking …"):
        exported = finished.export(out, form)
    for missing in exported.not_inside:
        messages().print(f"warning: not inside: {missing}", markup=False, soft_wrap=True)
    console = results()
    console.print(display_name(f"Wrote {out}"), markup=False, soft_wrap=True)
    console.print(display_name(f"Wrote {out.with_suffix('.md')}"), markup=False, soft_wrap=True)
    console.print(
        f"Logits differ from those of the run by at most {exported.largest_difference:.1g}.",
        markup=False,
        soft_wrap=True,
    )
