"""Networks as a configuration names them: a bundled one by name, or the folder of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo

from runtime.config.places import existing
from runtime.formats.documents import Mistake, suggest

#: Networks that come with the software, one folder each.
BUNDLED_MODELS = Path(__file__).resolve().parents[1] / "models"


def _model_bundle(value: object, info: ValidationInfo) -> Path:
    """A bundled network by its name, or the folder of another (with a `/` or `.` in it)."""
    if not isinstance(value, str) or "/" in value or value.startswith("."):
        path = existing(value, info)
    else:
        path = BUNDLED_MODELS / value
        if not path.is_dir():
            bundled = sorted(entry.name for entry in BUNDLED_MODELS.iterdir()) if BUNDLED_MODELS.is_dir() else []
            fix = (
                f"{suggest(value, bundled)}; a folder is written ./{value}"
                if bundled
                else f"write ./{value} to name a folder"
            )
            raise Mistake(f"no bundled model is called {value!r}", fix)
    if not (path / "model.yaml").is_file():
        raise Mistake(f"{path} is not a model bundle: it has no model.yaml", "name a folder made by 'model import'")
    return path


ModelBundlePath = Annotated[Path, BeforeValidator(_model_bundle)]
