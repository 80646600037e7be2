"""How well a filter must be seen to work, given what its two PM2.5 sensors can be believed (equipment.md §4)."""

from __future__ import annotations

STRICT_CIN = 75.0
"""µg/m³: from here on the efficiency decides (GB 3095 class II, 24 h)."""
WEAK_CIN = 35.0
"""µg/m³: below this nothing can be said about the efficiency."""


def eta_min(c_in: float, eta: float, err_abs: float = 10.0, err_rel: float = 0.10) -> float:
    """Lowest efficiency 1 − out/in that a healthy filter of efficiency ``eta`` (0…1) may show at ``c_in`` µg/m³.

    Both sensors err by e(c) = max(``err_abs``, ``err_rel``·c) [S13]: the one behind the filter reads high, the other low.
    −inf where ``c_in`` is within its own error: every figure is then possible.
    """
    c_out = (1.0 - eta) * c_in
    believed_in = c_in - max(err_abs, err_rel * c_in)
    if believed_in <= 0:
        return float("-inf")
    return 1.0 - (c_out + max(err_abs, err_rel * c_out)) / believed_in
