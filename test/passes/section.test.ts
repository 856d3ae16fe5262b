/** Sections against the whole: blocks put together equal the expression, for random programs and for packed weights. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Maths, maths } from "../../src/ir/build.ts";
import { Builder, type Func, makeModule, type Node } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { type Tensor, tensorOf, valuesOf } from "../../src/ir/tensor.ts";
import { type Shape, sizeOf, stridesOf } from "../../src/ir/types.ts";
import { type Box, boxShape, type Leaf, sections, wholeBox } from "../../src/passes/section.ts";
import { same } from "../arb/compare.ts";
import { weightTypes } from "../arb/inputs.ts";
import { contentsOf, inputsOf } from "../arb/module-of.ts";
import { arbModule } from "../arb/program.ts";

/** A weight's own elements, and what was asked of it. */
function sliced(m: Maths, asked: { name: string; box: Box }[] = []): Leaf {
  return (weight, box) => {
    asked.push({ name: weight.attrs.name, box });
    const copy = m.builder.weight(weight.attrs.name, weight.type.dtype, weight.type.shape);
    return box.reduce<Node>((x, { from, to }, axis) => m.slice(x, axis, from, to), copy);
  };
}

/** The elements of a tensor inside a box. */
function cut(tensor: Tensor, box: Box): Tensor {
  const values = valuesOf(tensor);
  const strides = stridesOf(tensor.type.shape);
  const shape = boxShape(box);
  const at = (i: number) =>
    stridesOf(shape).reduce((sum, stride, axis) => {
      return sum + (box[axis]!.from + (Math.floor(i / stride) % shape[axis]!)) * strides[axis]!;
    }, 0);
  return tensorOf(
    tensor.type.dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => values[at(i)]!),
  );
}

/** A box inside a shape, by numbers that wrap. */
function boxIn(shape: Shape, picks: readonly number[]): Box {
  return shape.map((size, axis) => {
    const from = picks[(2 * axis) % picks.length]! % size;
    return { from, to: from + 1 + (picks[(2 * axis + 1) % picks.length]! % (size - from)) };
  });
}

test("random programs: a section is what the whole has in the box", () => {
  const picks = fc.array(fc.nat(63), { minLength: 6, maxLength: 6 });
  fc.assert(
    fc.property(arbModule({ maxFuncs: 1, maxSteps: 8 }), picks, (module, numbers) => {
      const func = module.funcs.get("main")!;
      const outs = func.outs.filter(({ type }) => sizeOf(type.shape) > 0);
      const inputs = inputsOf(func);
      const types = weightTypes(module);
      const weights = (name: string) => contentsOf(types.get(name)!, name.length);
      const whole = interpret({ ...module, funcs: new Map([["main", { ...func, outs }]]) }, inputs, { weights });
      const m = maths(new Builder());
      const section = sections(m, sliced(m));
      const boxes = outs.map(({ type }) => boxIn(type.shape, numbers));
      const parts = outs.map((out, i) => section(out, boxes[i]!));
      const params = func.params.map(({ attrs, type }) => m.builder.param(attrs.name, type.dtype, type.shape));
      const cutFunc: Func = { name: "main", params, outs: parts };
      const given = interpret(makeModule("sections", [cutFunc], "main"), inputs, { weights });
      same(
        given,
        whole.map((tensor, i) => cut(tensor, boxes[i]!)),
      );
    }),
    { numRuns: 300 },
  );
});

/** Codes of 4 bits as `pack-dots` packs them. */
function packed(m: Maths, w: Node): Node {
  const [rows, length] = w.type.shape as [number, number];
  const codes = m.quantizeGroups(w, [m.groupScales(w, { group: 32, to: "i4", method: "range" })], "i4", 32);
  const halves = m.reshape(m.add(m.cast(codes, "i32"), 8), [rows / 4, 4, length / 32, 2, 16]);
  const bytes = m.add(m.slice(halves, 3, 0, 1), m.mul(m.slice(halves, 3, 1, 2), 16));
  const split = m.reshape(bytes, [rows / 4, 4, length / 32, 4, 4]);
  return m.cast(m.transpose(split, [0, 2, 3, 1, 4]), "u8");
}

describe("a block of rows needs those rows of weights and no more", () => {
  const m = maths(new Builder());
  const weight = (name: string, ...shape: number[]) => m.builder.weight(name, "bf16", shape);
  const asks = (expr: Node, box: Box) => {
    const asked: { name: string; box: Box }[] = [];
    const own = maths(new Builder());
    sections(own, sliced(own, asked))(expr, box);
    return asked.map(({ name, box: of }) => `${name} ${of.map(({ from, to }) => `${from}:${to}`).join(" ")}`);
  };
  const rows = (expr: Node, from: number, to: number): Box => wholeBox(expr.type.shape).with(0, { from, to });

  test("packed codes", () => {
    const expr = packed(m, weight("w", 64, 96));
    expect(asks(expr, rows(expr, 3, 5))).toEqual(["w 12:20 0:96"]);
  });
  test("packed codes of concatenated weights", () => {
    const expr = packed(m, m.concat(0, weight("q", 16, 64), weight("k", 8, 64)));
    expect(asks(expr, rows(expr, 1, 3))).toEqual(["q 4:12 0:64"]);
    expect(asks(expr, rows(expr, 4, 6))).toEqual(["k 0:8 0:64"]);
    expect(asks(expr, rows(expr, 3, 5))).toEqual(["q 12:16 0:64", "k 0:4 0:64"]);
  });
  test("stacked experts", () => {
    const w = weight("e.{0}.w", 4, 8, 64);
    const codes = m.quantizeGroups(w, [m.groupScales(w, { group: 32, to: "i4", method: "range" })], "i4", 32);
    const box = wholeBox(codes.type.shape).with(0, { from: 2, to: 3 }).with(1, { from: 4, to: 6 });
    expect(asks(codes, box)).toEqual(["e.{0}.w 2:3 4:6 0:64"]);
  });
  test("FP8 blocks", () => {
    const expr = m.dequantizeBlocks(
      m.builder.weight("w", "f8e4m3", [10, 7]),
      m.builder.weight("s", "f32", [3, 2]),
      [4, 4],
    );
    expect(asks(expr, rows(expr, 5, 9))).toEqual(["w 4:10 0:7", "s 1:3 0:2"]);
  });
  test("an op without a rule needs all", () => {
    const expr = m.contract("a b, b c -> a c", weight("a", 3, 4), weight("b", 4, 2));
    expect(asks(expr, rows(expr, 1, 2))).toEqual(["a 0:3 0:4", "b 0:4 0:2"]);
  });
});
