"""What `gcomp verify` does without a model: passes or a target on random graphs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .report import progress, report

if TYPE_CHECKING:
    from ..pipeline import Pass
    from ..testing import Counterexample, Miscompiled
    from ..testing.proof import Proof


@dataclasses.dataclass(frozen=True)
class OnRandomGraphs:
    """How many graphs, from which seed, and how it is told."""

    graphs: int
    seed: int
    script: Path | None
    as_json: bool

    def pass_files(self, files: Iterable[Path], tolerance: str | None, prove: bool) -> int:
        """Tests each rule of the passes by itself; the exit status."""
        from ..registry import load_pass_file

        return next(filter(None, (self.passes(load_pass_file(file), tolerance, prove) for file in files)), 0)

    def passes(self, given: Pass | str | Sequence[Pass], tolerance: str | None, prove: bool) -> int:
        """Tests each rule of a pass, or a pipeline as a whole; the exit status."""
        from ..pipeline import parse_pipeline, print_pipeline
        from ..testing import Counterexample, check_pass

        passes = parse_pipeline(given) if isinstance(given, str) else given
        name = print_pipeline(passes if isinstance(passes, Sequence) else [passes])
        facts: dict[str, Any] = {"passes": name, "holds": True}
        try:
            with progress(f"testing {name}"):
                found = check_pass(passes, self.graphs, tolerance, self.seed)
        except Counterexample as wrong:
            return self._tell(wrong, facts | {"rule": wrong.rule, "complaint": wrong.complaint})
        facts["rules"] = [tally.facts() for tally in found.tallies]
        lines, wrong_proof = [str(found)], False
        if prove:
            with progress(f"proving {name}"):
                proofs = _proofs(passes if isinstance(passes, Sequence) else [passes])
            facts["proofs"] = [dataclasses.asdict(proof) for proof in proofs]
            lines += [f"{proof.rule}: {proof}" for proof in proofs]
            wrong_proof = any(proof.verdict == "wrong" for proof in proofs)
        report(self.as_json, facts | {"holds": not wrong_proof}, lines)
        return int(wrong_proof)

    def target(self, target: str) -> int:
        """Compiles whole graphs for a target, and compares; the exit status."""
        from ..testing import Miscompiled, check_target

        facts: dict[str, Any] = {"target": target, "holds": True}
        try:
            with progress(f"testing {target}"):
                found = check_target(target, self.graphs, self.seed)
        except Miscompiled as wrong:
            return self._tell(wrong, facts | dataclasses.asdict(wrong.failure))
        report(self.as_json, facts | found.facts(), [str(found)])
        return 0

    def _tell(self, wrong: Counterexample | Miscompiled, facts: dict[str, Any]) -> int:
        """Says what is wrong, with the program that shows it; the exit status."""
        from ..files import replacing

        program = wrong.script()
        facts |= {"holds": False, "graph": str(wrong.case.graph), "script": program}
        if self.script is not None:
            with replacing(self.script) as new:
                new.write(program.encode())
        shown = f"written to {self.script}" if self.script is not None else f"\n\n{program}"
        report(self.as_json, facts, [str(wrong), "", f"A program that shows it: {shown}"])
        return 1


def _proofs(passes: Sequence[Pass]) -> list[Proof]:
    from ..rewrite import RewritePass
    from ..testing.proof import prove

    return [prove(rule) for one in passes if isinstance(one, RewritePass) for rule in one.rules]
