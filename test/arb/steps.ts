/** One entry per op of a random program: how to make the op's node from what a program has so far. */
import { maths } from "../../src/ir/build.ts";
import type { Node } from "../../src/ir/graph.ts";
import type { OpName } from "../../src/ir/ops/all.ts";
import { type ScalarOp, scalarOp, scalarOps } from "../../src/ir/scalar.ts";
import { type DType, isFloat, sameShape, sizeOf, type TensorType, tensorType } from "../../src/ir/types.ts";
import { domain, tame } from "./finite.ts";
import { layerBound, type Program, type Step } from "./growing.ts";

export interface Maker {
  readonly op: OpName;
  /** Values for the pool. */
  readonly make: (program: Program, step: Step) => readonly Node[];
}

const ranked = ({ dtype, shape }: TensorType) => dtype === "f32" && shape.length > 0;
const any = () => true;
const operandDtypes: Record<string, readonly DType[]> = {
  float: ["f32"],
  number: ["f32", "i32", "u32"],
  bool: ["bool"],
  any: ["f32", "i32", "u32", "bool"],
};
/** At least one axis. */
const atLeast1 = (shape: readonly number[]) => (shape.length === 0 ? [2] : shape);

const elementwise = (op: ScalarOp): Maker => ({
  op,
  make: (program, { picks, shape }) => {
    const m = maths(program.builder);
    const { arity, operands } = scalarOp(op);
    const classes = operandDtypes[operands]!;
    const otherwise = tensorType(classes[picks[5]! % classes.length]!, shape);
    const x = program.value(picks[0]!, (type) => classes.includes(type.dtype), otherwise);
    const { dtype } = x.type;
    const rest = Array.from({ length: arity - 1 }, (_, i) => {
      const condition = op === "select" && i === arity - 2;
      return program.exactly(picks[i + 1]!, condition ? "bool" : dtype, x.type.shape);
    });
    const ins = op === "select" ? [rest[1]!, x, rest[0]!] : [x, ...rest];
    return [program.builder.make(op, domain(program, m, op, ins), {})];
  },
});

const last = (op: "reduceSum" | "reduceMax" | "argMax" | "softmax" | "silu"): Maker => ({
  op,
  make: (program, { picks, shape }) => {
    const m = maths(program.builder);
    return [m[op](program.value(picks[0]!, ranked, tensorType("f32", atLeast1(shape))))];
  },
});

const topK = (op: "topKValues" | "topKIndices"): Maker => ({
  op,
  make: (program, { picks, shape }) => {
    const x = program.value(picks[0]!, ranked, tensorType("f32", atLeast1(shape)));
    return [program.builder.make(op, [x], { k: 1 + (picks[1]! % x.type.shape.at(-1)!) })];
  },
});

/** Another shape of the same size. */
function reshaped(shape: readonly number[], pick: number): readonly number[] {
  const choices = [
    [sizeOf(shape)],
    [...shape, 1],
    [1, ...shape],
    [...shape].reverse(),
    shape.filter((dim) => dim !== 1),
  ];
  return choices[pick % choices.length]!;
}

/** A float value with a last axis. */
function groupable(program: Program, pick: number, shape: readonly number[]): Node {
  const m = maths(program.builder);
  const x = program.value(
    pick,
    (type) => isFloat(type.dtype) && type.shape.length > 0,
    tensorType("f32", atLeast1(shape)),
  );
  return tame(program, m, x);
}

function groupAttrs(to: "i8" | "i4" | "u4", picks: readonly number[]) {
  return { to, group: 1 + (picks[2]! % 4), method: to !== "i8" && picks[3]! % 2 === 1 ? "mse" : "range" };
}

/** Codes of a value by its own scales, or by scales of another. */
function quantized(program: Program, picks: readonly number[], shape: readonly number[]) {
  const m = maths(program.builder);
  const to = (["i8", "i4", "u4"] as const)[picks[1]! % 3]!;
  const x = groupable(program, picks[0]!, shape);
  const attrs = groupAttrs(to, picks);
  const other = picks[4]! % 3 === 0 ? tame(program, m, program.exactly(picks[5]!, "f32", x.type.shape)) : x;
  const params = [m.groupScales(other, attrs), ...(to === "u4" ? [m.groupMinimums(other, attrs)] : [])];
  return { codes: m.quantizeGroups(x, params, to, attrs.group), params, group: attrs.group };
}

/** Collectives of a single device, which are their operands. */
const alone: readonly Maker[] = (["shard", "allGather", "allReduce", "reduceScatter", "allToAll"] as const).map(
  (op) => ({
    op,
    make: (program, { picks, shape }) => {
      const summed = op === "allReduce" || op === "reduceScatter";
      const fits = (type: TensorType) => type.shape.length >= 2 && (!summed || type.dtype === "f32");
      const x = program.value(picks[0]!, fits, tensorType("f32", [...atLeast1(shape), 2]));
      const axis = picks[1]! % (x.type.shape.length - 1);
      const group = { over: "", parts: 1 };
      const by = picks[2]! % 2 ? "sum" : "max";
      const m = program.builder;
      if (op === "allReduce") return [m.make(op, [x], { ...group, by })];
      if (op === "reduceScatter") return [m.make(op, [x], { ...group, by, axis })];
      return [
        op === "allToAll"
          ? m.make(op, [x], { ...group, split: axis, concat: axis + 1 })
          : m.make(op, [x], { ...group, axis }),
      ];
    },
  }),
);

const others: readonly Maker[] = [
  {
    op: "full",
    make: (program, { picks, shape, value }) => {
      const dtype = (["f32", "i32", "u32", "bool"] as const)[picks[0]! % 4]!;
      return [maths(program.builder).full(dtype, shape, value)];
    },
  },
  {
    op: "iota",
    make: (program, { picks, shape }) => {
      const dims = atLeast1(shape);
      return [maths(program.builder).iota(picks[0]! % 2 ? "i32" : "f32", dims, picks[1]! % dims.length)];
    },
  },
  {
    op: "weight",
    make: (program, { picks, shape }) => {
      const stacked = picks[0]! % 2 === 1 && shape.length > 0;
      const layer = !program.entry && picks[1]! % 2 === 1;
      // One name has one type: the type is part of the name.
      const dtype = program.dtypes[picks[2]! % program.dtypes.length]!;
      const kind = [dtype, ...shape, program.name].join("_");
      const name = `${layer ? "model.layers.{layer}." : ""}${kind}${stacked ? ".{0}" : ""}.weight`;
      return [program.builder.weight(name, dtype, shape)];
    },
  },
  {
    op: "call",
    make: (program, { picks }) => {
      const func = program.funcs[picks[0]! % (program.funcs.length || 1)];
      if (func === undefined) return [];
      const args = func.params.map(({ type }, i) => program.exactly(picks[1]! + i, type.dtype, type.shape));
      const layer = layerBound(func) || picks[2]! % 2 === 1 ? picks[3]! % 3 : undefined;
      return program.builder.call(func, args, layer).filter((_, i) => ((picks[4]! >> i) & 1) === 0);
    },
  },
  {
    op: "cast",
    make: (program, { picks, shape }) => {
      const x = program.value(picks[0]!, any, tensorType("f32", shape));
      const m = maths(program.builder);
      const wanted = program.dtypes.filter((dtype) => !(program.finite && dtype === "f8e8m0"));
      const dtype = wanted[picks[1]! % wanted.length]!;
      if (dtype === "f8e8m0" && x.type.dtype === dtype) return [];
      return [program.builder.make("cast", [tame(program, m, x)], { dtype })];
    },
  },
  {
    op: "reshape",
    make: (program, { picks, shape }) => {
      const x = program.value(picks[0]!, any, tensorType("f32", shape));
      return [program.builder.make("reshape", [x], { shape: reshaped(x.type.shape, picks[1]!) })];
    },
  },
  {
    op: "broadcast",
    make: (program, { picks, shape }) => {
      const x = program.value(picks[0]!, (type) => type.shape.length < 4, tensorType("f32", shape));
      const grown = x.type.shape.map((dim) => (dim === 1 ? 1 + (picks[1]! % 3) : dim));
      const lead = picks[2]! % 2 === 0 ? [] : [1 + (picks[3]! % 3)];
      return [program.builder.make("broadcast", [x], { shape: [...lead, ...grown] })];
    },
  },
  {
    op: "transpose",
    make: (program, { picks, shape }) => {
      const x = program.value(picks[0]!, any, tensorType("f32", shape));
      const axes = x.type.shape.map((_, i) => i);
      const turned = axes.map((i) => axes[(i + picks[1]!) % axes.length]!);
      return [maths(program.builder).transpose(x, picks[2]! % 2 ? turned : turned.reverse())];
    },
  },
  {
    op: "slice",
    make: (program, { picks, shape }) => {
      const x = program.value(picks[0]!, (type) => sizeOf(type.shape) > 1, tensorType("f32", atLeast1(shape)));
      const axis = picks[1]! % x.type.shape.length;
      const size = x.type.shape[axis]!;
      const start = picks[2]! % size;
      const stop = start + 1 + (picks[3]! % (size - start));
      return [program.builder.make("slice", [x], { axis, start, stop })];
    },
  },
  {
    op: "concat",
    make: (program, { picks, shape }) => {
      const x = program.value(picks[0]!, (type) => type.shape.length > 0, tensorType("f32", atLeast1(shape)));
      const axis = picks[1]! % x.type.shape.length;
      const more = Array.from({ length: picks[2]! % 3 }, (_, i) => {
        const size = 1 + ((picks[3]! + i) % 2);
        return program.exactly(picks[4]! + i, x.type.dtype, x.type.shape.with(axis, size));
      });
      return [program.builder.make("concat", [x, ...more], { axis })];
    },
  },
  {
    op: "gather",
    make: (program, { picks, shape }) => {
      const table = program.value(picks[0]!, (type) => type.shape.length > 0, tensorType("f32", atLeast1(shape)));
      const small = (type: TensorType) => type.dtype === "i32" && type.shape.length < 3;
      const index = program.value(picks[1]!, small, tensorType("i32", shape.slice(0, 2)));
      return [maths(program.builder).gather(table, index)];
    },
  },
  {
    op: "takeAlong",
    make: (program, { picks, shape }) => {
      const x = program.value(picks[0]!, (type) => type.shape.length > 0, tensorType("f32", atLeast1(shape)));
      const index = program.exactly(picks[1]!, "i32", x.type.shape.with(-1, 1 + (picks[2]! % 3)));
      return [maths(program.builder).takeAlong(x, index)];
    },
  },
  {
    op: "updateRows",
    make: (program, { picks, shape }) => {
      const rows = program.value(picks[0]!, (type) => type.shape.length > 0, tensorType("f32", atLeast1(shape)));
      const n = rows.type.shape[0]!;
      const slots = program.exactly(picks[1]!, "i32", [n]);
      // A parameter of its own: the old value may be read before the update, but not after it.
      const old = program.param(tensorType(rows.type.dtype, rows.type.shape.with(0, 1 + (picks[2]! % 4))));
      const m = maths(program.builder);
      const before = picks[3]! % 3 === 0 ? [m.gather(old, slots)] : [];
      return [...before, m.updateRows(old, rows, slots)];
    },
  },
  {
    op: "contract",
    make: (program, { picks, shape }) => {
      const float = (type: TensorType) => isFloat(type.dtype) && type.shape.length < 4;
      const m = maths(program.builder);
      const [x, y] = [picks[0]!, picks[1]!].map((pick) =>
        tame(program, m, program.value(pick, float, tensorType("f32", shape))),
      ) as [Node, Node]; // a map of two is two
      const left = x.type.shape.map((_, i) => "abcd"[i]!);
      const free = [...left];
      const right = y.type.shape.map((dim, i) => {
        const shared = ((picks[2]! >> i) & 1) === 0 && free.find((axis) => x.type.shape[left.indexOf(axis)] === dim);
        if (!shared) return "wxyz"[i]!;
        free.splice(free.indexOf(shared), 1);
        return shared;
      });
      const all = [...new Set([...left, ...right])];
      const out = all.filter((_, i) => ((picks[3]! >> i) & 1) === 0).slice(0, 4);
      if (picks[4]! % 2 === 1) out.reverse();
      return [m.contract(`${left.join(" ")}, ${right.join(" ")} -> ${out.join(" ")}`, x, y)];
    },
  },
  {
    op: "rmsNorm",
    make: (program, { picks, shape }) => {
      const x = program.value(picks[0]!, ranked, tensorType("f32", atLeast1(shape)));
      const width = x.type.shape.at(-1)!;
      const scales = (type: TensorType) => isFloat(type.dtype) && sameShape(type.shape, [width]);
      const w = program.value(picks[1]!, scales, tensorType("f32", [width]));
      return [maths(program.builder).rmsNorm(x, w, picks[2]! % 2 ? 1e-6 : 0.5)];
    },
  },
  {
    op: "rope",
    make: (program, { picks }) => {
      const [n, h, half] = [1 + (picks[0]! % 3), 1 + (picks[1]! % 2), 1 + (picks[2]! % 2)];
      const x = program.exactly(picks[3]!, "f32", [n, h, 2 * half]);
      const [cos, sin] = [4, 5].map((i) => program.exactly(picks[i]!, "f32", [n, half]));
      return [maths(program.builder).rope(x, cos!, sin!, picks[5]! % 2 === 1)];
    },
  },
  ...(["attention", "attentionParts"] as const).map(
    (op): Maker => ({
      op,
      make: (program, { picks }) => {
        const size = (i: number, most: number) => 1 + (picks[i]! % most);
        const [n, g, b, s, d, e] = [size(0, 3), size(1, 2), size(2, 2), size(3, 3), size(4, 2), size(5, 3)];
        const q = program.exactly(picks[1]!, "f32", [n, g * size(2, 2), d]);
        const k = program.exactly(picks[2]!, "f32", [b, s, g, d]);
        const v = program.exactly(picks[3]!, "f32", [b, s, g, e]);
        const [positions, sequence] = [0, 1].map((i) => program.exactly(picks[i]!, "i32", [n]));
        const ins = [q, k, v, positions!, sequence!];
        if (op === "attention") return [program.builder.make(op, ins, { scale: 0.5 })];
        return [program.builder.make(op, ins, { scale: 0.5, parts: size(4, 3), block: size(5, 2) })];
      },
    }),
  ),
  {
    op: "mergeParts",
    make: (program, { picks }) => {
      const shape = [0, 1, 2, 3].map((i) => 1 + (picks[i]! % 3) + (i === 3 ? 2 : 0));
      return [
        maths(program.builder).mergeParts(
          tame(program, maths(program.builder), program.exactly(picks[4]!, "f32", shape)),
        ),
      ];
    },
  },
  {
    op: "dequantizeBlocks",
    make: (program, { picks, shape }) => {
      const fits = (type: TensorType) => isFloat(type.dtype) && type.shape.length >= 2;
      const m = maths(program.builder);
      const given = program.value(picks[0]!, fits, tensorType("f32", [...atLeast1(shape), 3]));
      const x = tame(program, m, given);
      const block = [1 + (picks[1]! % 3), 1 + (picks[2]! % 3)];
      const scales = x.type.shape.map((dim, i, { length }) => Math.ceil(dim / (block[i - length + 2] ?? 1)));
      return [m.dequantizeBlocks(x, tame(program, m, program.exactly(picks[3]!, "f32", scales)), block)];
    },
  },
  ...(["groupScales", "groupMinimums"] as const).map(
    (op): Maker => ({
      op,
      make: (program, { picks, shape }) => {
        const attrs = groupAttrs(op === "groupMinimums" ? "u4" : (["i8", "i4", "u4"] as const)[picks[1]! % 3]!, picks);
        return [program.builder.make(op, [groupable(program, picks[0]!, shape)], attrs)];
      },
    }),
  ),
  {
    op: "quantizeGroups",
    make: (program, { picks, shape }) => {
      const { codes } = quantized(program, picks, shape);
      return [codes];
    },
  },
  {
    op: "dequantizeGroups",
    make: (program, { picks, shape }) => {
      const m = maths(program.builder);
      const { codes, params, group } = quantized(program, picks, shape);
      return [m.dequantizeGroups(codes, params, group)];
    },
  },
  {
    op: "dotGroups",
    make: (program, { picks }) => {
      const [blocks, groups, bits] = [1 + (picks[0]! % 2), 1 + (picks[1]! % 2), picks[2]! % 2 ? 8 : 4];
      // Either side may have rows of its own, and both may share their leading axes.
      const [xLead, wLead] = (
        [
          [[2], []],
          [[2], [2]],
          [[2], [2, 2]],
          [[], []],
        ] as const
      )[picks[3]! % 4]!;
      const m = maths(program.builder);
      const small = (i: number, shape: readonly number[]) => tame(program, m, program.exactly(picks[i]!, "f32", shape));
      const x = program.exactly(picks[4]!, "i8", [...xLead, groups * 32]);
      const ins = [
        x,
        small(0, [...xLead, groups]),
        m.reduceSum(m.reshape(m.cast(x, "f32"), [...xLead, groups, 32])),
        program.exactly(picks[5]!, "u8", [
          ...wLead,
          blocks,
          groups,
          ...(picks[6]! % 2 ? [8, 4, 4] : [bits / 4, 32 / bits, 16]),
        ]),
        small(2, [...wLead, blocks, groups, 32 / bits]),
      ];
      const affine = picks[4]! % 2 === 0;
      if (affine) ins.push(small(3, [...wLead, blocks, groups, 32 / bits]));
      return [program.builder.make("dotGroups", ins, { bits, zero: affine ? 0 : bits === 8 ? 128 : 8 })];
    },
  },
];

export const makers: readonly Maker[] = [
  // The keys of the table are its ops.
  ...(Object.keys(scalarOps) as ScalarOp[]).map(elementwise),
  ...(["reduceSum", "reduceMax", "argMax", "softmax", "silu"] as const).map(last),
  ...(["topKValues", "topKIndices"] as const).map(topK),
  ...alone,
  ...others,
  // The ops that move data and call are met as often as the many scalar ones.
  ...others,
];
