/** Reading and writing rows by index. */
import { names } from "../axis-rule.ts";
import { defineOp, typeError } from "../op.ts";
import { reader, writer, zeros } from "../tensor.ts";
import { sameShape, sizeOf, tensorType } from "../types.ts";

const clampIndex = (i: number, size: number) => Math.min(Math.max(i, 0), size - 1);

export const indexOps = {
  gather: defineOp({
    arity: 2,
    kind: "injective",
    view: true,
    attrs: {},
    doc: "Rows of operand 0 (axis 0) chosen by the i32 indices of operand 1, of any shape: `out[i.., r..] = x[index[i..], r..]`. Indices are clamped to the table.",
    axes: ([x, index]) => {
      const [at, row] = [names("i", index!.shape), names("r", x!.shape).slice(1)];
      return {
        ins: [["t", ...row], at],
        out: [...at, ...row],
        indexed: { axis: "t", by: 1, access: "read" },
        linear: [[0]],
      };
    },
    infer: (ins) => {
      const [x, index] = ins;
      if (index!.dtype !== "i32" || !(x!.shape[0]! > 0))
        throw typeError("gather", "a table that is not empty and i32 indices", ins);
      return tensorType(x!.dtype, [...index!.shape, ...x!.shape.slice(1)]);
    },
    evaluate: ([x, index], _, type) => {
      const out = zeros(type.dtype, type.shape);
      const [read, readIndex, write] = [reader(x!), reader(index!), writer(out)];
      const width = sizeOf(x!.type.shape.slice(1));
      for (let i = 0; i < sizeOf(index!.type.shape); i++) {
        const row = clampIndex(readIndex(i), x!.type.shape[0]!);
        for (let j = 0; j < width; j++) write(i * width + j, read(row * width + j));
      }
      return out;
    },
  }),
  takeAlong: defineOp({
    arity: 2,
    kind: "injective",
    view: true,
    attrs: {},
    doc: "Elements along the last axis chosen by i32 indices: `out[i.., k] = x[i.., index[i.., k]]`. Indices are clamped to the axis.",
    axes: ([x, index]) => {
      const lead = names("a", x!.shape).slice(0, -1);
      const at = [...lead, "k"];
      const linear = [[0]];
      return { ins: [[...lead, "t"], at], out: names("a", index!.shape).with(-1, "k"), whole: ["t"], linear };
    },
    infer: (ins) => {
      const [x, index] = ins;
      const fits =
        index!.dtype === "i32" && x!.shape.length > 0 && sameShape(x!.shape.slice(0, -1), index!.shape.slice(0, -1));
      if (!fits || index!.shape.length !== x!.shape.length || !(x!.shape.at(-1)! > 0)) {
        throw typeError("takeAlong", "i32 indices with the operand's leading axes", ins);
      }
      return tensorType(x!.dtype, index!.shape);
    },
    evaluate: ([x, index], _, type) => {
      const out = zeros(type.dtype, type.shape);
      const [read, readIndex, write] = [reader(x!), reader(index!), writer(out)];
      const [size, k] = [x!.type.shape.at(-1)!, type.shape.at(-1)!];
      for (let i = 0; i < sizeOf(type.shape); i++) {
        write(i, read(Math.floor(i / k) * size + clampIndex(readIndex(i), size)));
      }
      return out;
    },
  }),
  updateRows: defineOp({
    arity: 3,
    kind: "update",
    attrs: {},
    doc: "Operand 0 with row `slots[i]` replaced by row i of operand 1; rows whose slot lies outside operand 0 are dropped, of equal slots the last row stays.",
    axes: ([x]) => {
      const row = names("r", x!.shape).slice(1);
      const indexed = { axis: "t", by: 2, access: "write" } as const;
      return { ins: [["t", ...row], ["n", ...row], ["n"]], out: ["t", ...row], whole: ["n"], indexed };
    },
    infer: (ins) => {
      const [x, rows, slots] = ins;
      const fits =
        x!.shape.length > 0 &&
        rows!.dtype === x!.dtype &&
        rows!.shape.length === x!.shape.length &&
        sameShape(rows!.shape.slice(1), x!.shape.slice(1)) &&
        slots!.dtype === "i32" &&
        sameShape(slots!.shape, rows!.shape.slice(0, 1));
      if (!fits) throw typeError("updateRows", "x[s, r..], rows[n, r..] of the same dtype and i32 slots[n]", ins);
      return x!;
    },
    evaluate: ([x, rows, slots], _, type) => {
      const out = { type, data: x!.data.slice() };
      const [read, readSlot, write] = [reader(rows!), reader(slots!), writer(out)];
      const width = sizeOf(type.shape.slice(1));
      for (let i = 0; i < slots!.type.shape[0]!; i++) {
        const slot = readSlot(i);
        if (slot < 0 || slot >= type.shape[0]!) continue;
        for (let j = 0; j < width; j++) write(slot * width + j, read(i * width + j));
      }
      return out;
    },
  }),
} as const;
