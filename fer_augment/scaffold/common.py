"""What the distributions of all kinds have in common."""

from __future__ import annotations

PYPROJECT = """\
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[project]
name = "$distribution"
version = "0.1.0"
description = "The $kind $name for fer_augment."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["fer_augment>=$version"]

[project.optional-dependencies]
test = ["pytest"]

# fer_augment loads the modules in this group and registers what they declare.
[project.entry-points.fer_augment]
$name = "$module"

[tool.setuptools]
py-modules = ["$module"]
"""

INSTALL = """\
Install the $kind and check it:

```
pip install -e '.[test]'
fer-augment plugins show $name
fer-augment plugins check $name
pytest
```

Without installing it, `fer-augment plugins check $module.py` checks the file.
"""
"""The part of a README that all kinds but strategies share."""
