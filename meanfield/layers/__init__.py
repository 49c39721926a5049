"""Layers: maps from the statistics of a pair of signals to those one layer on."""

from meanfield.layers.attention import Transformer
from meanfield.layers.base import Layer
from meanfield.layers.chain import Chain, as_layer
from meanfield.layers.convolution import Conv
from meanfield.layers.dense import Dense, as_dense
from meanfield.layers.dropout import Dropout
from meanfield.layers.gated import GLU
from meanfield.layers.limits import LimitMap
from meanfield.layers.minimal_rnn import MinimalRNN
from meanfield.layers.normalisation import BatchNorm, LayerNorm, RMSNorm
from meanfield.layers.pooling import AveragePool
from meanfield.layers.positional import PositionalConv
from meanfield.layers.positions import gradient_positions, propagate_positions
from meanfield.layers.recurrent import Recurrent
from meanfield.layers.residual import Residual

__all__ = [
    "GLU",
    "AveragePool",
    "BatchNorm",
    "Chain",
    "Conv",
    "Dense",
    "Dropout",
    "Layer",
    "LayerNorm",
    "LimitMap",
    "MinimalRNN",
    "PositionalConv",
    "RMSNorm",
    "Recurrent",
    "Residual",
    "Transformer",
    "as_dense",
    "as_layer",
    "gradient_positions",
    "propagate_positions",
]
