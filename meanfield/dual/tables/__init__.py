"""Tables of Gaussian moments: how they lie, are made, and are looked up."""
