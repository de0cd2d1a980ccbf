"""Settings from a YAML file, which the environment may override."""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Settings:
    """Where a job reads and writes, and how it repeats itself."""

    input_dir: str = "/opt/ml/input"
    model_dir: str = "/opt/ml/model"
    seed: int = 7


def load_settings(path: Path | None = None) -> Settings:
    """Defaults, then the file, then variables such as `ML_SEED`."""
    settings = Settings()
    if path is not None and path.exists():
        settings = replace(settings, **(yaml.safe_load(path.read_text()) or {}))
    for field in fields(Settings):
        value = os.environ.get(f"ML_{field.name.upper()}")
        if value is not None:
            settings = replace(settings, **{field.name: type(getattr(settings, field.name))(value)})
    return settings
