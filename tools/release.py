"""Build and check distributions, and prepare a release.

```sh
make dist                                    # sdist, and a wheel that is built from it, in dist/
make dist-check PYTHONS="python3.11 python3.13"   # install both in fresh environments and run the smoke test
make release VERSION=0.2.0                   # set the version, build, check, commit and tag
```
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
SMOKE_TEST = ROOT / "tools" / "smoke.py"
CONSTRAINTS = ROOT / "constraints.txt"
UNRELEASED = "## [Unreleased]"
VERSION_LINES = {
    "pyproject.toml": r'(?m)^version = "(.*)"$',
    "fer_augment/__init__.py": r'(?m)^__version__ = "(.*)"$',
    "CITATION.cff": r"(?m)^version: (.*)$",
}
"""Where the version stands: the file and a pattern with it as its group."""


@click.group()
def release() -> None:
    """Build and check distributions, and prepare a release."""


@release.command()
def build() -> None:
    """Build the sdist, and a wheel from it, in dist/."""
    for file in built():
        click.echo(file.relative_to(ROOT))


@release.command()
@click.argument("pythons", nargs=-1)
def check(pythons: tuple[str, ...]) -> None:
    """Install the wheel and the sdist for each interpreter in fresh environments; test them."""
    distributions = built()
    for python in pythons or (sys.executable,):
        for distribution in distributions:
            click.echo(f"{distribution.name}: {smoke_test(python, distribution)}")


@release.command()
@click.argument("version")
@click.argument("pythons", nargs=-1)
def prepare(version: str, pythons: tuple[str, ...]) -> None:
    """Set the version and the date in the changelog, build, check, commit and tag; upload nothing."""
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        raise click.UsageError(f"{version!r} is not a version such as 0.2.0 or 0.2.0rc1")
    if _run(["git", "status", "--porcelain"]).strip():
        raise click.UsageError("the working tree has changes; commit them first")
    set_version(ROOT, version, datetime.now(UTC).date().isoformat())
    wheel, _ = built()
    for python in pythons or (sys.executable,):
        smoke_test(python, wheel)
    _run(["git", "commit", "-qam", f"Release {version}"])
    _run(["git", "tag", "-a", f"v{version}", "-m", f"fer_augment {version}"])
    click.echo(f"Tagged v{version}. Next: git push --follow-tags, then twine upload dist/*")


def set_version(root: Path, version: str, date: str) -> None:
    """Write a version to all files that have it, and close the unreleased section of the changelog.

    Raises:
        click.UsageError: if a file does not have it where it is expected, or the changelog has nothing to release.
    """
    for name, pattern in VERSION_LINES.items():
        text = (root / name).read_text(encoding="utf-8")
        found = re.search(pattern, text)
        if not found:
            raise click.UsageError(f"{name} has no version")
        changed = text[: found.start(1)] + version + text[found.end(1) :]
        (root / name).write_text(changed, encoding="utf-8")
    changelog = root / "CHANGELOG.md"
    before, heading, after = changelog.read_text(encoding="utf-8").partition(UNRELEASED)
    if not heading or not after.partition("\n## ")[0].strip():
        raise click.UsageError(f"CHANGELOG.md has no changes below {UNRELEASED!r}")
    changelog.write_text(f"{before}{UNRELEASED}\n\n## [{version}] - {date}{after}", encoding="utf-8")


def built() -> tuple[Path, Path]:
    """Build into an empty dist/; return the wheel and the sdist."""
    shutil.rmtree(DIST, ignore_errors=True)
    _run([sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT)])
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    return wheel, sdist


def smoke_test(python: str, distribution: Path) -> str:
    """Install a distribution in a fresh environment, with the pinned versions, and run the smoke test there.

    Returns:
        what the smoke test prints.
    """
    with tempfile.TemporaryDirectory(prefix="fer_augment-") as scratch:
        environment = Path(scratch) / "environment"
        scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
        uv = shutil.which("uv")
        if uv:  # it links files of its cache in place of copying gigabytes
            _run([uv, "venv", "--quiet", "--python", python, str(environment)])
            install = [uv, "pip", "install", "--quiet", "--python", str(scripts / "python")]
        else:
            _run([python, "-m", "venv", str(environment)])
            install = [str(scripts / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*install, "-c", str(CONSTRAINTS), str(distribution)])
        return _run([str(scripts / "python"), str(SMOKE_TEST)], cwd=Path(scratch)).strip()


def _run(command: Sequence[str], cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    release()
