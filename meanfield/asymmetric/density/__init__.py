"""The law of signals under an asymmetric prior: followed, settled, sampled."""
