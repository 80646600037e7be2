"""One rule row on one machine: the window of samples that speak for it, and the open episode."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from statistics import median_low
from typing import Any

from domain.catalogue.fault_rule import FaultRule
from domain.findings import Finding

SHARE = 0.8
"""Of the samples in a window that must agree, and of the window that samples must cover."""


class Watch:
    """Counts while its row is raised or cleared; ``roots`` explain it away, ``peers`` share its key."""

    __slots__ = ("agreeing", "guarded", "needs", "off_ms", "on_ms", "open", "peers", "roots", "rule", "window")

    def __init__(self, rule: FaultRule[Any]) -> None:
        self.rule = rule
        self.guarded, self.needs = rule.guarded, rule.needs
        self.on_ms, self.off_ms = int(rule.on_s * 1000), int(rule.off_s * 1000)
        self.open: Finding | None = None
        self.window: deque[int] = deque()
        """2·t + agrees per sample, the first one agreeing; the smallest stretch that covers the duration."""
        self.agreeing = 0
        self.roots: tuple[Watch, ...] = ()
        self.peers: tuple[Watch, ...] = ()

    def forget(self) -> None:
        """Start counting anew."""
        self.window.clear()
        self.agreeing = 0

    def stands(self, t: int, gap_ms: int) -> bool:
        """Whether this row's condition is open or about to be: enough to explain others away."""
        return self.open is not None or (bool(self.window) and t - (self.window[-1] >> 1) <= gap_ms)

    def lasted(self, agrees: bool, t: int, span_ms: int, gap_ms: int) -> bool:
        """Take in a sample; True when the last ``span_ms`` agree (80 % of at least 3 samples, without a hole)."""
        window = self.window
        if window:
            last = window[-1] >> 1
            if t - last > gap_ms:
                self.forget()
            elif t == last:
                return False
        elif not agrees:
            return False
        window.append(2 * t + agrees)
        self.agreeing += agrees
        oldest = t - span_ms
        while len(window) > self.rule.min_samples and window[1] >> 1 <= oldest:
            self.agreeing -= window.popleft() & 1
        while window and not window[0] & 1:
            window.popleft()
        count = len(window)
        if not agrees or count < self.rule.min_samples or window[0] >> 1 > oldest or self.agreeing < SHARE * count:
            return False
        return count < 3 or self._covered()

    def _covered(self) -> bool:
        """Samples are there for 80 % of the window, by the rhythm of this rule's own channels."""
        times = [code >> 1 for code in self.window]
        rhythm = median_low([b - a for a, b in pairwise(times)])
        return rhythm * (len(times) - 1) >= SHARE * (times[-1] - times[0])
