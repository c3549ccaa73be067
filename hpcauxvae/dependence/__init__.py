"""How much variables depend on each other: moments, the native kernel, the regularizers of eq. (9)."""
