"""Numerical methods that know nothing of networks: roots, derivatives, polynomials, bookkeeping."""
