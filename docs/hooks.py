"""The site's footer and repository link, from `pyproject.toml`."""

import tomllib
from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """The version in the footer; the repository in the header, once the project names one."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    config.copyright = f"qamx {project['version']}, {project['license']} licence"
    config.repo_url = project.get("urls", {}).get("Repository")
    return config
