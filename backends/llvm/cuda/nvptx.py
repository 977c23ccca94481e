"""A program: LLVM text in, PTX out, in a process of its own, since LLVM ends that where it has no code.

A line of standard input is `{"cpu": ..., "features": ..., "text": ...}`, and one of standard output
`{"ptx": ...}`, or `{"error": ...}` for text that is not valid; none comes where LLVM gave up, which standard
error then tells.
"""

from __future__ import annotations

import json
import sys
from functools import cache

from llvmlite import binding as llvm

TRIPLE = "nvptx64-nvidia-cuda"


def main() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ptx": assembly(request["text"], request["cpu"], request["features"])}
        except RuntimeError as error:
            answer = {"error": str(error).strip()}
        print(json.dumps(answer), flush=True)


def assembly(text: str, cpu: str, features: str) -> str:
    machine = _machine(cpu, features)
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = tuning.slp_vectorization = False
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = TRIPLE, str(machine.target_data)
    module.verify()
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return str(machine.emit_assembly(module))


@cache
def _machine(cpu: str, features: str) -> llvm.TargetMachine:
    return llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=cpu, features=features, opt=3)


if __name__ == "__main__":
    main()
