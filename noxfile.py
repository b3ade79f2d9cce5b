"""The project's checks: `nox -s tests`, `nox -s lint types docs`; its study: `nox -s study`."""

from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests", "lint", "types", "docs"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
LEROBOT_EXAMPLE = "docs/examples/serving/lerobot_policy.py"

CODE = ("qamx", "tests", "benchmarks", "studies", "docs", "noxfile.py")


@nox.session
def tests(session: nox.Session) -> None:
    """Every test, on all cores."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "auto", "--dist", "loadscope", *session.posargs)


@nox.session
def walkthrough(session: nox.Session) -> None:
    """Every block of the documentation, executed in its order (about half an hour)."""
    session.install("-e", ".[test]")
    session.run(
        "pytest", "tests/walkthrough", "-m", "walkthrough or not walkthrough", *session.posargs
    )


@nox.session
def faults(session: nox.Session) -> None:
    """Every injected fault, and a hundred kills at random moments (about half an hour)."""
    session.install("-e", ".[test]")
    session.run(
        "pytest",
        "tests/faults",
        "tests/tools/test_doctor.py",
        "tests/sweep/test_sweep.py",
        "-m",
        "faults or not faults",
        *session.posargs,
    )
    session.run("python", "tests/faults/kill_loop.py", "--kills", "100")


@nox.session
def slurm(session: nox.Session) -> None:
    """A sweep on a real Slurm of one node, interrupted in every way (needs Debian's, and root)."""
    session.install("-e", ".[test]")
    session.run("python", "tests/slurm/interrupted_sweep.py")


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and lint."""
    session.install("-e", ".[lint]")
    session.run("ruff", "format", "--check", *CODE)
    session.run("ruff", "check", *CODE)


@nox.session
def types(session: nox.Session) -> None:
    """Types."""
    session.install("-e", ".[types]")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, in `site/`; a broken link or reference is an error."""
    session.install("-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def browser(session: nox.Session) -> None:
    """The site in a real browser: links, formulas, widths, the console (needs Chromium)."""
    session.install("-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})
    session.run("python", "tests/browser/look.py", "site", *session.posargs)


@nox.session
def study(session: nox.Session) -> None:
    """How near each method comes to a known law, and what `docs/studies.md` shows of it."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "studies.tilt")
    session.run("python", "-m", "studies.report")


@nox.session
def deploy(session: nox.Session) -> None:
    """Exported policies in new environments without qamx's training dependencies."""
    session.install("-e", ".[onnx]")
    session.run("python", "tests/deploy/fresh.py")


@nox.session
def lerobot(session: nox.Session) -> None:
    """An exported policy in LeRobot itself (which brings PyTorch, some gigabytes)."""
    session.install("lerobot>=0.4.4,<0.5", "jax>=0.8.1")
    session.install("--no-deps", ".")
    session.run("python", "tests/lerobot/adapter.py", "tests/data/bundle")
    script, bundle = (f"{ROOT}/{name}" for name in (LEROBOT_EXAMPLE, "tests/data/bundle"))
    with session.chdir(session.create_tmp()):  # it saves a policy where it is
        session.run("python", script, bundle)


@nox.session(python="3.11")
def rliable(session: nox.Session) -> None:
    """Estimates and intervals of reports against rliable's, on the same resamples."""
    # rliable fails with later versions of these; qamx needs later ones, and is not installed.
    pins = ("numpy<2", "pandas<2.2", "scipy<1.12", "arch<6.4", "seaborn<0.13")
    session.install("rliable==1.2.0", *pins, "jaxtyping>=0.3")
    session.run("python", "tests/rliable/compare.py", env={"PYTHONPATH": "."})
