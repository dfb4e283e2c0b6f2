"""What a run left out and why: bad series never stop it, and never vanish silently."""

from collections import Counter
from dataclasses import dataclass, field

from tsfm_lab.data.transforms import UnusableSeries


@dataclass
class SkipReport:
    """Counts of skipped draws by (collection, reason), with the first case of each; `str()` of it is the report."""

    drawn: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, collection: str, item: str, error: UnusableSeries) -> None:
        """Count one draw that came to nothing."""
        key = (collection, error.reason)
        self.counts[key] += 1
        self.first.setdefault(key, f"{item}: {error}")

    def merge(self, other: "SkipReport") -> None:
        """Add what another report counted."""
        self.drawn += other.drawn
        self.counts.update(other.counts)
        self.first = {**other.first, **self.first}

    def __str__(self) -> str:
        skipped = self.counts.total()
        lines = [f"skipped {skipped} of {self.drawn} draws"]
        for (collection, reason), n in sorted(self.counts.items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"  {collection}, {reason}: {n} (first: {self.first[collection, reason]})")
        return "\n".join(lines)
