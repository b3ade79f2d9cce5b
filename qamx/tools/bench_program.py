"""The launches of one update of a compiled GPU program, read from the texts that XLA writes.

XLA's thunks start work on the device. A kernel is a thunk that holds no others: a fusion, a matrix
product or another call of a library, a copy, a memset. Loops, branches, sequences and command
buffers (CUDA graphs) are none, but what they hold is. Bytes and FLOP of a kernel are those of its
instruction in the program's HLO text.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

from qamx.errors import RunError

CONTROL = {"kCommandBuffer", "kConditional", "kSequential", "kWhile"}
"""Thunks that are no kernels, even where they hold none."""

SLICING = ("dynamic-slice", "gather", "slice")
UPDATE = "dynamic-update-slice"
VIEWS = ("bitcast", "reshape")

SUMMED = re.compile(r'lhs_contracting_dim\w+"?[=:][{\[]([\d,"]*)[}\]]')
"""The axes that a matrix product sums over."""


class KernelCost(NamedTuple):
    """Bytes read and written, FLOP of matrix products, and the number of these products."""

    size: int = 0
    flop: int = 0
    products: int = 0


class Kernel(NamedTuple):
    """A kernel of an update: its HLO instruction, and how often an update launches it."""

    name: str
    times: int
    in_graph: bool


@dataclass(frozen=True)
class Launches:
    """The kernels of an update, and the number of CUDA graphs that it launches."""

    kernels: tuple[Kernel, ...]
    graphs: int

    @property
    def alone(self) -> int:
        """Kernels launched outside a graph."""
        return sum(kernel.times for kernel in self.kernels if not kernel.in_graph)


class Instruction(NamedTuple):
    """A line of HLO: `%name = shape opcode(operands), attributes`."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str


@dataclass
class Computation:
    """Its instructions by name, and the name of its result."""

    instructions: dict[str, Instruction] = field(default_factory=dict)
    root: str = ""

    def uses(self, name: str) -> list[tuple[Instruction, int]]:
        """Those that take an instruction, or a view of it, and as which of their operands."""
        found: list[tuple[Instruction, int]] = []
        for each in self.instructions.values():
            if name in each.operands:
                viewed = each.opcode in VIEWS
                found += self.uses(each.name) if viewed else [(each, each.operands.index(name))]
        return found

    def source(self, name: str) -> Instruction:
        """The instruction of that name; of a view, the one that is viewed."""
        found = self.instructions[name]
        return self.source(found.operands[0]) if found.opcode in VIEWS else found


@dataclass
class Program:
    """A compiled module."""

    computations: dict[str, Computation] = field(default_factory=dict)
    instructions: dict[str, Instruction] = field(default_factory=dict)

    def cost(self, name: str) -> KernelCost:
        """The cost of a kernel by the name of its instruction; zero for a name that is none.

        Each operand is read once and the result written once. Of an operand that a fusion only
        slices, the slices count; of one that it updates in place, the update. A workspace of a
        matrix product doesn't count.
        """
        instruction = self.instructions.get(name)
        if instruction is None:
            return KernelCost()
        if instruction.opcode == "fusion":
            (name,) = re.findall(r"calls=%([\w.-]+)", instruction.attributes)
            called = self.computations[name]
            flops = [flop for inner in called.instructions.values() if (flop := self._flop(inner))]
            read = sum(self._read(called, each) for each in called.instructions.values())
            return KernelCost(read + self._written(called, called.root), sum(flops), len(flops))
        flop = self._flop(instruction)
        written = size(instruction.shape.partition(", s8[")[0] if flop else instruction.shape)
        operands = [self.instructions[each] for each in dict.fromkeys(instruction.operands)]
        read = sum(size(operand.shape) for operand in operands)
        return KernelCost(read + written, flop, int(flop > 0))

    def trips(self, name: str) -> int:
        """Iterations of a loop: those that XLA knows, else one."""
        attributes = self.instructions[name].attributes if name in self.instructions else ""
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', attributes)
        return int(known.group(1)) if known else 1

    def _read(self, fusion: Computation, instruction: Instruction) -> int:
        if instruction.opcode != "parameter":
            return 0
        whole, uses = size(instruction.shape), fusion.uses(instruction.name)
        if not all(each.opcode in (*SLICING, UPDATE) and at == 0 for each, at in uses):
            return whole
        return min(whole, sum(size(each.shape) for each, _ in uses if each.opcode in SLICING))

    def _written(self, fusion: Computation, name: str) -> int:
        instruction = fusion.source(name)
        if instruction.opcode == "tuple":
            return sum(self._written(fusion, each) for each in instruction.operands)
        if instruction.opcode == UPDATE:
            instruction = fusion.instructions[instruction.operands[1]]
        return size(instruction.shape)

    def _flop(self, instruction: Instruction) -> int:
        """2 x entries of the result x entries that are summed, of a matrix product, else 0."""
        summed = SUMMED.search(instruction.attributes)
        if instruction.opcode not in ("dot", "custom-call") or summed is None:
            return 0
        left = _arrays(self.instructions[instruction.operands[0]].shape)[0][1]
        axes = [int(axis) for axis in re.findall(r"\d+", summed.group(1))]
        return 2 * prod(_arrays(instruction.shape)[0][1]) * prod(left[axis] for axis in axes)


def read_program(text: str) -> Program:
    """The module of an HLO text (with % before names, as `Compiled.as_text` prints it)."""
    program, computation = Program(), Computation()
    for line in text.splitlines():
        if opened := re.match(r"(?:ENTRY )?%([\w.-]+) .*\{$", line):
            computation = program.computations[opened.group(1)] = Computation()
        elif found := re.match(r"\s+(ROOT )?%([\w.-]+) = (.*)", line):
            shape, rest = _shape(found.group(3))
            opcode, _, rest = rest.partition("(")
            operands, _, attributes = rest.partition(")")
            name, names = found.group(2), tuple(re.findall(r"%([\w.-]+)", operands))
            instruction = Instruction(name, shape, opcode, names, attributes)
            computation.instructions[name] = program.instructions[name] = instruction
            if found.group(1):
                computation.root = name
    return program


def _shape(text: str) -> tuple[str, str]:
    """A shape at the start of a text, and what follows it; a tuple's shape has parentheses."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == " " and depth == 0:
            return text[:place], text[place + 1 :]
    return text, ""


def _arrays(shape: str) -> list[tuple[str, list[int]]]:
    """Types and dimensions of the arrays of a shape."""
    found = re.findall(r"\b([a-z]\w*)\[([\d,]*)\]", shape)
    return [(kind, [int(each) for each in axes.split(",") if each]) for kind, axes in found]


def size(shape: str) -> int:
    """Bytes of a shape, e.g. 24 of `(f32[2,2]{1,0}, s8[8])`."""
    bits = (_bits(kind) * prod(axes) for kind, axes in _arrays(shape))
    return sum(-(-each // 8) for each in bits)


def _bits(kind: str) -> int:
    number = re.search(r"\d+", kind)  # of f32, s8, bf16, f8e4m3fn
    return int(number.group()) if number else 8 * (kind == "pred")


def read_launches(sequence: str, metadata: str, program: Program) -> Launches:
    """The launches of one update: of the body and the condition of the first outermost loop.

    The condition ends the loop, so it is carried out once an update too. A loop inside counts as
    often as XLA knows that it runs, else once; both sides of a branch count.

    **Arguments:** `sequence` and `metadata` are XLA's `thunk_sequence_after_thunk_passes` and
    `thunk_metadata`, which gives the instruction of each numbered thunk.

    **Raises:** `RunError` if there is no such loop.
    """
    pattern = r'profile_annotation: "([^"]*)"\s+thunk_id: (\d+)'
    names = {int(number): name for name, number in re.findall(pattern, metadata)}
    kernels, graphs = [], 0
    for kind, number, within, leaf in _of_first_loop(sequence):
        loops = (program.trips(names.get(each, "")) for outer, each in within if outer == "kWhile")
        times, outer_kinds = prod(loops), {outer for outer, _ in within}
        graphs += times * (kind == "kCommandBuffer")
        if leaf and kind not in CONTROL:
            name = names.get(number, "")
            kernels.append(Kernel(name, times, "kCommandBuffer" in outer_kinds))
    return Launches(tuple(kernels), graphs)


def _of_first_loop(sequence: str) -> Iterator[tuple[str, int, list[tuple[str, int]], bool]]:
    """Each thunk in the first outermost loop: its kind and number, those of the thunks around it
    inside the loop, and that it holds no others."""
    found = re.findall(r"^( *)(\d+): (k\w+)", sequence, re.MULTILINE)
    thunks = [(len(indent), int(number), kind) for indent, number, kind in found]
    outer = [i for i, (indent, _, kind) in enumerate(thunks) if indent == 0 and kind == "kWhile"]
    if not outer:
        raise RunError(
            "XLA's thunk sequence has no loop over updates; this JAX writes another form"
        )
    inside = itertools.takewhile(lambda thunk: thunk[0] > 0, thunks[outer[0] + 1 :])
    around: list[tuple[int, str, int]] = []
    for (indent, number, kind), (following, *_) in itertools.pairwise((*inside, (0, 0, ""))):
        while around and around[-1][0] >= indent:
            around.pop()
        yield kind, number, [(outer, each) for _, outer, each in around], following <= indent
        around.append((indent, kind, number))
