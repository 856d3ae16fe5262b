/** Composite ops of transformers. Each has its meaning here in plain loops and an expansion in `passes/expand.ts`. */
import { lastWhole, sameAxes } from "../axis-rule.ts";
import { defineOp, typeError } from "../op.ts";
import { reader, writer, zeros } from "../tensor.ts";
import { isFloat, sameShape, sizeOf } from "../types.ts";
import { attentionOps } from "./attention.ts";

export const nnOps = {
  silu: defineOp({
    arity: 1,
    kind: "composite",
    attrs: {},
    doc: "`x * sigmoid(x)` (Elfwing et al. 2017, SiLU).",
    axes: ([x]) => sameAxes(1, x!.shape),
    infer: ([x]) => {
      if (x!.dtype !== "f32") throw typeError("silu", "f32", [x!]);
      return x!;
    },
    evaluate: ([x], _, type) => {
      const out = zeros("f32", type.shape);
      const [read, write] = [reader(x!), writer(out)];
      for (let i = 0; i < sizeOf(type.shape); i++) write(i, read(i) / (1 + Math.exp(-read(i))));
      return out;
    },
  }),
  softmax: defineOp({
    arity: 1,
    kind: "composite",
    attrs: {},
    doc: "`exp(x - max) / sum(exp(x - max))` along the last axis.",
    axes: ([x]) => lastWhole(x!.shape),
    infer: ([x]) => {
      if (x!.dtype !== "f32" || x!.shape.length === 0) throw typeError("softmax", "f32 of rank 1 or more", [x!]);
      return x!;
    },
    evaluate: ([x], _, type) => {
      const out = zeros("f32", type.shape);
      const [read, write] = [reader(x!), writer(out)];
      const width = type.shape.at(-1)!;
      for (let start = 0; start < sizeOf(type.shape); start += width) {
        let most = Number.NEGATIVE_INFINITY;
        for (let i = start; i < start + width; i++) most = Math.max(most, read(i));
        let sum = 0;
        for (let i = start; i < start + width; i++) sum += Math.exp(read(i) - most);
        for (let i = start; i < start + width; i++) write(i, Math.exp(read(i) - most) / sum);
      }
      return out;
    },
  }),
  rmsNorm: defineOp({
    arity: 2,
    kind: "composite",
    attrs: { eps: "number" },
    doc: "`w * x / sqrt(mean(x^2) + eps)` along the last axis (Zhang and Sennrich 2019); w of any float dtype.",
    axes: ([x, w]) => lastWhole(x!.shape, [w!.shape]),
    infer: (ins) => {
      const [x, w] = ins;
      const fits = x!.dtype === "f32" && isFloat(w!.dtype) && x!.shape.length > 0;
      if (!fits || !sameShape(x!.shape.slice(-1), w!.shape)) {
        throw typeError("rmsNorm", "f32[.., d] and a float weight [d]", ins);
      }
      return x!;
    },
    evaluate: ([x, w], { eps }, type) => {
      const out = zeros("f32", type.shape);
      const [read, readWeight, write] = [reader(x!), reader(w!), writer(out)];
      const width = type.shape.at(-1)!;
      for (let start = 0; start < sizeOf(type.shape); start += width) {
        let squares = 0;
        for (let i = 0; i < width; i++) squares += read(start + i) ** 2;
        const scale = 1 / Math.sqrt(squares / width + eps);
        for (let i = 0; i < width; i++) write(start + i, read(start + i) * scale * readWeight(i));
      }
      return out;
    },
  }),
  rope: defineOp({
    arity: 3,
    kind: "composite",
    attrs: { interleaved: "bool" },
    doc: "Rotary position embedding (Su et al. 2021) of x[n, h, d] by cos[n, d/2] and sin[n, d/2]. Pair i is elements (2i, 2i+1) where interleaved, (i, i + d/2) where not.",
    axes: () => ({
      ins: [
        ["n", "h", "d"],
        ["n", "c"],
        ["n", "c"],
      ],
      out: ["n", "h", "d"],
      whole: ["d", "c"],
    }),
    infer: (ins) => {
      const [x, cos, sin] = ins;
      const [n, h, d] = x!.shape;
      const fits =
        ins.every((type) => type.dtype === "f32") &&
        x!.shape.length === 3 &&
        h !== undefined &&
        d! % 2 === 0 &&
        [cos, sin].every((table) => sameShape(table!.shape, [n!, d! / 2]));
      if (!fits) throw typeError("rope", "x f32[n, h, d], cos and sin f32[n, d/2]", ins);
      return x!;
    },
    evaluate: ([x, cos, sin], { interleaved }, type) => {
      const out = zeros("f32", type.shape);
      const [read, readCos, readSin, write] = [reader(x!), reader(cos!), reader(sin!), writer(out)];
      const [n, h, d] = [type.shape[0]!, type.shape[1]!, type.shape[2]!];
      for (let row = 0; row < n * h; row++) {
        for (let i = 0; i < d / 2; i++) {
          const [first, second] = interleaved ? [2 * i, 2 * i + 1] : [i, i + d / 2];
          const [a, b] = [read(row * d + first), read(row * d + second)];
          const angle = Math.floor(row / h) * (d / 2) + i;
          write(row * d + first, a * readCos(angle) - b * readSin(angle));
          write(row * d + second, b * readCos(angle) + a * readSin(angle));
        }
      }
      return out;
    },
  }),
  ...attentionOps,
} as const;
