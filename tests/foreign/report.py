"""The lines of a run, and its counts."""


class Report:
    def __init__(self):
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def add(self, what, fault):
        """A check and what is wrong with it; `None` if nothing is."""
        self.counts["failed" if fault else "passed"] += 1
        print(f"failed: {what}: {fault}" if fault else f"ok: {what}", flush=True)

    def skip(self, what, why):
        self.counts["skipped"] += 1
        print(f"skipped: {what}: {why}", flush=True)

    def end(self):
        """Prints the counts and returns the exit status."""
        print(", ".join(f"{count} {word}" for word, count in self.counts.items()), flush=True)
        return 1 if self.counts["failed"] else 0
