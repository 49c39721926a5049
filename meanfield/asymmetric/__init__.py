"""Weights of which one in every row is of order 1 (RAI, RAAI): signals that are not Gaussian."""

from meanfield.asymmetric import special_weights as special_weights
