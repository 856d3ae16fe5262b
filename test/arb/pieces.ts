/** Steps of a random program that are a piece of a transformer at once: shapes that single random ops hardly ever meet. */
import { type Maths, maths } from "../../src/ir/build.ts";
import type { Node } from "../../src/ir/graph.ts";
import { type DType, type TensorType, tensorType } from "../../src/ir/types.ts";
import type { Program, Step } from "./growing.ts";
import type { Maker } from "./steps.ts";

const matrix = (type: TensorType) => type.dtype === "f32" && type.shape.length === 2;

/** A matrix with values in [-1, 1], so that pieces stay finite. */
function activations(program: Program, m: Maths, { picks }: Step): { x: Node; n: number; d: number } {
  const otherwise = tensorType("f32", [1 + (picks[1]! % 8), 1 + (picks[2]! % 5)]);
  const x = m.tanh(program.value(picks[0]!, matrix, otherwise));
  const [n, d] = x.type.shape as [number, number]; // a matrix
  return { x, n, d };
}

/** A weight for the piece, as a checkpoint may store it; now and then a parameter, always where the program has no weights. */
function weight(program: Program, m: Maths, pick: number, ...shape: number[]): Node {
  const dtype = (["f32", "bf16", "f16"] as const)[pick % 3]!;
  const stored: DType = program.dtypes.includes(dtype) ? dtype : "f32";
  if (pick % 4 === 0 || !program.weighted) return m.tanh(program.exactly(pick, "f32", shape));
  return m.cast(program.builder.weight([stored, ...shape, program.name, "piece"].join("_"), stored, shape), "f32");
}

const linear = (m: Maths, x: Node, w: Node) => m.contract("n i, o i -> n o", x, w);

const piece = (op: Maker["op"], build: (program: Program, m: Maths, step: Step) => Node | readonly Node[]): Maker => ({
  op,
  make: (program, step) => {
    const made = build(program, maths(program.builder), step);
    return Array.isArray(made) ? (made as readonly Node[]) : [made as Node]; // isArray does not narrow readonly arrays
  },
});

export const pieces: readonly Maker[] = [
  // A gated feed-forward network with a residual: two contractions meet in one elementwise op.
  piece("contract", (program, m, step) => {
    const { x, d } = activations(program, m, step);
    const f = 1 + (step.picks[3]! % 9);
    const h = step.picks[4]! % 2 === 0 ? m.rmsNorm(x, weight(program, m, step.picks[5]!, d), 1e-2) : x;
    const gate = linear(m, h, weight(program, m, step.picks[3]!, f, d));
    const up = linear(m, h, weight(program, m, step.picks[4]!, f, d));
    return m.add(x, linear(m, m.tanh(m.mul(m.silu(gate), up)), weight(program, m, step.picks[5]!, d, f)));
  }),
  // Contractions, on one another and on reductions of one another.
  piece("contract", (program, m, step) => {
    const { x, n, d } = activations(program, m, step);
    const y = m.mul(linear(m, x, x), m.expandLast(m.reduceMax(x)));
    const z = m.add(y, m.reshape(m.reduceSum(x), [1, n]));
    const sums = [m.contract("a b, b c -> a c", m.tanh(z), x), m.mul(x, m.reduceMax(m.transpose(x, [1, 0])))];
    return [m.sub(sums[0]!, sums[1]!), m.contract("a b, a b -> b", sums[0]!, x), m.broadcast(m.reduceSum(z), [d, n])];
  }),
  // More elementwise ops than one kernel takes, with views and reductions among them.
  piece("tanh", (program, m, step) => {
    const { x, n, d } = activations(program, m, step);
    let y = x;
    const length = step.picks[5]! % 4 === 0 ? 100 + step.picks[3]! : step.picks[3]! % 16;
    for (let i = 0; i < length; i++) {
      const turn = (step.picks[4]! + i) % 7;
      if (turn === 0) y = m.tanh(m.add(y, x));
      else if (turn === 1) y = m.reshape(m.transpose(y, [1, 0]), [n, d]);
      else if (turn === 2 && i % 3 === 0) y = m.sub(y, m.expandLast(m.reduceMax(y)));
      else y = m.mul(m.abs(y), i % 2 === 0 ? 0.5 : -1);
    }
    return y;
  }),
  // Experts: weights gathered by the choice of a gate, converted as they are read.
  piece("gather", (program, m, step) => {
    const { x, d } = activations(program, m, step);
    const [experts, f] = [2 + (step.picks[3]! % 3), 1 + (step.picks[4]! % 4)];
    const scores = m.softmax(linear(m, x, weight(program, m, step.picks[5]!, experts, d)));
    const chosen = m.topKIndices(scores, 2);
    const weights = m.takeAlong(scores, chosen);
    const share = m.div(weights, m.expandLast(m.add(m.reduceSum(weights), 1e-3)));
    const table = weight(program, m, step.picks[3]!, experts, f, d);
    const up = m.contract("n i, n k f i -> n k f", x, m.gather(table, chosen));
    return m.contract("n k f, n k f i -> n i", m.mul(m.tanh(up), m.expandLast(share)), m.gather(table, chosen));
  }),
  // A cache is updated, its rows are gathered, and attention reads them.
  piece("updateRows", (program, m, step) => {
    const { x, n } = activations(program, m, step);
    const [g, r, b, s] = [0, 1, 2, 3].map((i) => 1 + (step.picks[i + 2]! % 3)) as [number, number, number, number];
    const d = 2;
    const cache = program.param(tensorType("f32", [5, g * d]));
    const slots = program.exactly(step.picks[0]!, "i32", [n]);
    const rows = m.tanh(linear(m, x, weight(program, m, step.picks[3]!, g * d, x.type.shape[1]!)));
    const before = step.picks[1]! % 4 === 0 ? m.gather(cache, slots) : rows;
    const now = m.updateRows(m.tanh(cache), m.tanh(before), slots);
    const keys = m.reshape(m.gather(now, program.exactly(step.picks[4]!, "i32", [b, s])), [b, s, g, d]);
    const q = m.reshape(linear(m, x, weight(program, m, step.picks[4]!, g * r * d, x.type.shape[1]!)), [n, g * r, d]);
    const [positions, sequence] = [step.picks[2]!, step.picks[5]!].map((pick) => program.exactly(pick, "i32", [n]));
    const attended = m.attention(m.tanh(q), keys, keys, positions!, sequence!, 0.5);
    const out = m.reshape(attended, [n, g * r * d]);
    return step.picks[0]! % 2 === 0 ? [now, out] : out;
  }),
];
