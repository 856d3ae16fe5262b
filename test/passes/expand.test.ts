/** Every composite op equals its expansion, for all at once: `evaluate(op)` against `interpret(expand(op))`. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Builder, makeModule, type Node, topoOrder } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { type CompositeOp, opDef } from "../../src/ir/ops/all.ts";
import { jsTarget } from "../../src/ir/target.ts";
import { type Tensor, tensorOf, valuesOf } from "../../src/ir/tensor.ts";
import { type DType, type Shape, sizeOf } from "../../src/ir/types.ts";
import { expand, expansions } from "../../src/passes/expand.ts";
import { runPasses } from "../../src/passes/pass.ts";

const dim = fc.integer({ min: 1, max: 3 });
const flag = fc.boolean();

type Attrs = Record<string, number | boolean>;
interface Case {
  readonly attrs: Attrs;
  readonly ins: readonly { dtype: DType; shape: Shape }[];
}

const f32 = (...shape: number[]) => ({ dtype: "f32" as const, shape });
const i32 = (...shape: number[]) => ({ dtype: "i32" as const, shape });

const attentionIns = fc
  .tuple(dim, dim, dim, dim, dim, dim, dim)
  .map(([n, b, s, g, r, d, e]) => [f32(n, g * r, d), f32(b, s, g, d), f32(b, s, g, e), i32(n), i32(n)]);

/** Operand types and attributes of each composite op. */
const cases: Record<CompositeOp, fc.Arbitrary<Case>> = {
  silu: fc.record({ attrs: fc.constant({}), ins: fc.tuple(dim, dim).map(([n, d]) => [f32(n, d)]) }),
  softmax: fc.record({ attrs: fc.constant({}), ins: fc.tuple(dim, dim).map(([n, d]) => [f32(n, d)]) }),
  rmsNorm: fc.record({
    attrs: fc.constant({ eps: 1e-6 }),
    ins: fc
      .tuple(dim, dim, fc.constantFrom<DType>("f32", "bf16"))
      .map(([n, d, dtype]) => [f32(n, d), { dtype, shape: [d] }]),
  }),
  rope: fc.record({
    attrs: fc.record({ interleaved: flag }),
    ins: fc.tuple(dim, dim, dim).map(([n, h, half]) => [f32(n, h, 2 * half), f32(n, half), f32(n, half)]),
  }),
  attention: fc.record({ attrs: fc.record({ scale: fc.constantFrom(1, 0.25, -0.5) }), ins: attentionIns }),
  attentionParts: fc.record({
    attrs: fc.record({ scale: fc.constantFrom(1, -0.5), parts: dim, block: dim }),
    ins: attentionIns,
  }),
  mergeParts: fc.record({
    attrs: fc.constant({}),
    ins: fc.tuple(dim, dim, dim, dim).map(([n, h, parts, e]) => [f32(n, h, parts, e + 2)]),
  }),
};

/** Floats to two places, zeros of both signs among them; integers from -2, to be out of range at both ends. */
const number = (dtype: DType) =>
  dtype === "i32"
    ? fc.integer({ min: -2, max: 4 })
    : fc.oneof(
        fc.constantFrom(0, -0),
        fc.integer({ min: -300, max: 300 }).map((x) => x / 100),
      );

const arbCase = (op: CompositeOp) =>
  cases[op].chain(({ attrs, ins }) =>
    fc.record({
      attrs: fc.constant(attrs),
      inputs: fc.tuple(
        ...ins.map(({ dtype, shape }) =>
          fc
            .array(number(dtype), { minLength: sizeOf(shape), maxLength: sizeOf(shape) })
            .map((values) => tensorOf(dtype, shape, values)),
        ),
      ),
    }),
  );

function moduleOf(op: CompositeOp, attrs: Attrs, inputs: readonly Tensor[]) {
  const builder = new Builder();
  const params = inputs.map(({ type }, i) => builder.param(`x${i}`, type.dtype, type.shape));
  // The attributes of each op come from its own case above.
  const make = builder.make as (op: CompositeOp, ins: readonly Node[], attrs: Attrs) => Node;
  return makeModule("test", [{ name: "main", params, outs: [make.call(builder, op, params, attrs)] }], "main");
}

describe.each(Object.keys(expansions) as CompositeOp[])("%s", (op) => {
  test("equals its expansion", () => {
    fc.assert(
      fc.property(arbCase(op), ({ attrs, inputs }) => {
        const module = moduleOf(op, attrs, inputs);
        const expanded = runPasses(module, [expand()], jsTarget, { verify: 2 });
        const outs = expanded.funcs.get("main")!.outs;
        expect(topoOrder(outs).map((node) => opDef(node.op).kind)).not.toContain("composite");
        const wanted = valuesOf(interpret(module, inputs)[0]!);
        const found = valuesOf(interpret(expanded, inputs)[0]!);
        for (const [i, value] of wanted.entries()) {
          // Scores reach 27 (3 x 3 x 3), so two roundings of 6e-8 move exp by 4e-6 of itself, and values reach 3.
          const bound = 2e-5 * Math.max(1, Math.abs(value));
          expect(Math.abs(found[i]! - value), `element ${i}: ${value} against ${found[i]}`).toBeLessThanOrEqual(bound);
        }
      }),
    );
  });
});

test("kept composites stay, and the same object returns", () => {
  const module = moduleOf("attention", { scale: 1 }, [
    tensorOf("f32", [1, 1, 1], [1]),
    ...[0, 1].map(() => tensorOf("f32", [1, 1, 1, 1], [1])),
    ...[0, 1].map(() => tensorOf("i32", [1], [0])),
  ]);
  const kept = runPasses(module, [expand({ keep: ["attention"] })], jsTarget, { verify: 2 });
  expect(topoOrder(kept.funcs.get("main")!.outs).at(-1)!.op).toBe("attention");
});
