"""Networks: plain Equinox modules over any leading batch axes."""

from qamx.nn.actors import DeterministicActor, GaussianActor, TanhNormal, Temperature
from qamx.nn.critic import AbstractCritic, EnsembleCritic, FlowTimeCritic
from qamx.nn.fields import AbstractVelocityField, FourierFeatures, NoisePredictor, VelocityField
from qamx.nn.mlp import MLP, LayerNorm, Linear, Trunk
from qamx.nn.networks import Networks
from qamx.nn.precision import Precision, matmul_precision, product

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
