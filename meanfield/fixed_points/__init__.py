"""Where signals end: fixed points of the two maps, their stability, the edge of chaos."""
