"""Flow matching, its ODE and memoryless SDE, and adjoint matching: the mathematics of QAM."""

from qamx.flow.adjoint import (
    adjoint_matching_loss,
    gaussian_adjoint_target,
    lean_adjoint,
    lean_adjoint_term,
    matching_residuals,
    path_costs,
    path_kl,
    velocity_change,
)
from qamx.flow.integrator import SOLVERS, Integrator
from qamx.flow.matching import flow_matching_loss, interpolate, ode_term, sample_ode
from qamx.flow.sde import (
    GridIncrements,
    MemorylessSchedule,
    memoryless_terms,
    sample_memoryless_sde,
)

__all__ = [
    "SOLVERS",
    "GridIncrements",
    "Integrator",
    "MemorylessSchedule",
    "adjoint_matching_loss",
    "flow_matching_loss",
    "gaussian_adjoint_target",
    "interpolate",
    "lean_adjoint",
    "lean_adjoint_term",
    "matching_residuals",
    "memoryless_terms",
    "ode_term",
    "path_costs",
    "path_kl",
    "sample_memoryless_sde",
    "sample_ode",
    "velocity_change",
]
