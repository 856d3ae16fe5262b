/** Block-scaled storage formats. */
import { blockedNames, names } from "../axis-rule.ts";
import { defineOp, typeError } from "../op.ts";
import { reader, writer, zeros } from "../tensor.ts";
import { isFloat, sameShape, sizeOf, tensorType } from "../types.ts";

export const quantOps = {
  dequantizeBlocks: defineOp({
    arity: 2,
    kind: "injective",
    attrs: { block: "ints" },
    doc: "`x * scale` where each scale serves one block of the last two axes (`block` elements each, the last block may be cut): x[.., o, i] of any float dtype, scale f32[.., ceil(o/block0), ceil(i/block1)] -> f32. DeepSeek-V3's FP8 weights with `weight_scale_inv`.",
    axes: ([x], { block }) => {
      const lead = names("a", x!.shape).slice(0, -2);
      const blocked = [-2, -1].map((at, i) => blockedNames(`b${i}`, x!.shape.at(at)!, block[i]!));
      const all = [...lead, ...blocked.map((dim) => dim.all)];
      return {
        ins: [all, [...lead, ...blocked.map((dim) => dim.blocks)]],
        out: all,
        whole: blocked.flatMap((dim) => dim.whole),
        linear: [[0], [1]],
      };
    },
    infer: (ins, { block }) => {
      const [x, scale] = ins;
      const rank = x!.shape.length;
      const blocks = x!.shape.map((dim, i) => (i < rank - 2 ? dim : Math.ceil(dim / block[i - rank + 2]!)));
      const fits =
        block.length === 2 && block.every((b) => b > 0) && rank >= 2 && isFloat(x!.dtype) && scale!.dtype === "f32";
      if (!fits || !sameShape(blocks, scale!.shape)) {
        throw typeError("dequantizeBlocks", `float x[.., o, i] and one f32 scale per block of [${block}]`, ins);
      }
      return tensorType("f32", x!.shape);
    },
    evaluate: ([x, scale], { block }, type) => {
      const out = zeros("f32", type.shape);
      const [read, readScale, write] = [reader(x!), reader(scale!), writer(out)];
      const [rows, cols] = [type.shape.at(-2)!, type.shape.at(-1)!];
      const [scaleRows, scaleCols] = [scale!.type.shape.at(-2)!, scale!.type.shape.at(-1)!];
      for (let i = 0; i < sizeOf(type.shape); i++) {
        const [col, row, matrix] = [i % cols, Math.floor(i / cols) % rows, Math.floor(i / (rows * cols))];
        const at = (matrix * scaleRows + Math.floor(row / block[0]!)) * scaleCols + Math.floor(col / block[1]!);
        write(i, read(i) * readScale(at));
      }
      return out;
    },
  }),
} as const;
