"""Imports run one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "qamx"

# Each layer and the layers that it may import. What is not named here may import anything.
LAYERS = {
    "_types": set(),
    "errors": set(),
    "backend": {"errors"},
    "cores": set(),
    "gpus": set(),
    "hashing": {"cores"},
    "ogbench_names": set(),
    "processes": set(),
    "seeds": {"errors"},
    "units": set(),
    "textfile": {"errors"},
    "nn": {"_types"},
    "schedules": {"_types", "rl"},
    "flow": {"_types", "nn"},
    "rl": {"_types", "nn"},
    "policies": {"_types", "nn", "flow", "rl", "schedules"},
    "agents": {"_types", "nn", "flow", "rl", "schedules", "policies"},
    "data": {"_types", "cores", "errors", "envs", "hashing", "ogbench_names", "textfile"},
    "envs": {"_types", "errors", "processes", "units"},
    "registry": {"errors"},
    "config": {"errors", "ogbench_names", "registry", "seeds", "textfile"},
    "runner": {
        "_types",
        "agents",
        "backend",
        "data",
        "envs",
        "errors",
        "hashing",
        "nn",
        "processes",
        "schedules",
        "seeds",
    },
    "passport": {"backend", "config", "errors", "hashing", "runner"},
    "audit": {
        "_types",
        "agents",
        "backend",
        "build",
        "config",
        "cores",
        "data",
        "envs",
        "errors",
        "flow",
        "gpus",
        "nn",
        "passport",
        "policies",
        "registry",
        "rl",
        "runner",
        "seeds",
        "trained",
        "worlds",
    },
    "assembly": {
        "_types",
        "agents",
        "config",
        "cores",
        "data",
        "flow",
        "nn",
        "registry",
        "rl",
        "schedules",
    },
    "worlds": {"config", "data", "envs", "errors", "registry"},
    "build": {
        "agents",
        "assembly",
        "backend",
        "config",
        "cores",
        "data",
        "envs",
        "errors",
        "passport",
        "registry",
        "runner",
        "schedules",
        "trained",
        "worlds",
    },
    "trained": {
        "_types",
        "agents",
        "assembly",
        "backend",
        "config",
        "envs",
        "errors",
        "nn",
        "passport",
        "runner",
        "worlds",
    },
    "bench": {
        "_types",
        "agents",
        "assembly",
        "audit",
        "backend",
        "config",
        "data",
        "errors",
        "nn",
        "registry",
        "runner",
    },
    "deploy": {"backend", "errors", "hashing", "units"},
    "export": {
        "_types",
        "agents",
        "bench",
        "config",
        "cores",
        "deploy",
        "envs",
        "errors",
        "hashing",
        "nn",
        "runner",
        "trained",
        "units",
        "worlds",
    },
    "evaluation": {
        "audit",
        "build",
        "config",
        "cores",
        "deploy",
        "envs",
        "errors",
        "processes",
        "runner",
        "seeds",
        "trained",
        "worlds",
    },
    "experts": {"build", "config", "data", "envs", "errors", "policies"},
    "studies": {"audit", "errors", "textfile"},
    "sweep": {
        "audit",
        "build",
        "config",
        "errors",
        "gpus",
        "processes",
        "runner",
        "textfile",
    },
    "cli": {
        "audit",
        "bench",
        "build",
        "config",
        "data",
        "errors",
        "evaluation",
        "experts",
        "export",
        "processes",
        "registry",
        "seeds",
        "studies",
        "sweep",
    },
}


def layer_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_layers(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "qamx" and len(parts) > 1:
                yield parts[1]


FILES = sorted(path for path in ROOT.rglob("*.py") if layer_of(path) in LAYERS)


def test_every_layer_is_checked():
    found = {layer_of(path) for path in ROOT.rglob("*.py")} - {"__init__", "__main__"}
    assert found == set(LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    own = layer_of(path)
    allowed = LAYERS[own] | {own}
    modules = {name for name in imported_layers(path) if (ROOT / name).exists()}
    modules |= {n for n in imported_layers(path) if (ROOT / f"{n}.py").exists()}
    assert modules <= allowed, f"{path.name} imports {sorted(modules - allowed)}"
