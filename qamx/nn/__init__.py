"""Networks: plain Equinox modules over any leading batch axes."""

from qamx.nn.critic import AbstractCritic, EnsembleCritic, FlowTimeCritic
from qamx.nn.deterministic_actor import DeterministicActor
from qamx.nn.gaussian_actor import GaussianActor, TanhNormal
from qamx.nn.mlp import MLP, LayerNorm, Linear, Trunk
from qamx.nn.networks import Networks
from qamx.nn.noise_predictor import FourierFeatures, NoisePredictor
from qamx.nn.precision import Precision, matmul_precision, product
from qamx.nn.temperature import Temperature
from qamx.nn.velocity_field import AbstractVelocityField, VelocityField

__all__ = [
    "MLP",
    "AbstractCritic",
    "AbstractVelocityField",
    "DeterministicActor",
    "EnsembleCritic",
    "FlowTimeCritic",
    "FourierFeatures",
    "GaussianActor",
    "LayerNorm",
    "Linear",
    "Networks",
    "NoisePredictor",
    "Precision",
    "TanhNormal",
    "Temperature",
    "Trunk",
    "VelocityField",
    "matmul_precision",
    "product",
]
