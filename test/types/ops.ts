/** What must not compile: checked by `tsc`, never run. */
import { Builder, isOp, type Node } from "../../src/ir/graph.ts";
import { defineOp } from "../../src/ir/op.ts";
import type { AttrsOf, OpName } from "../../src/ir/ops/all.ts";
import { type ScalarOp, scalarOps } from "../../src/ir/scalar.ts";
import { type DType, tensorType } from "../../src/ir/types.ts";

const builder = new Builder();
const x = builder.param("x", "f32", [2]);

builder.make("slice", [x], { axis: 0, start: 0, stop: 1 });
// @ts-expect-error: no such op
builder.make("slize", [x], {});
// @ts-expect-error: stop is missing
builder.make("slice", [x], { axis: 0, start: 0 });
// @ts-expect-error: an axis is a number
builder.make("slice", [x], { axis: "0", start: 0, stop: 1 });
// @ts-expect-error: slice has no such attribute
builder.make("slice", [x], { axis: 0, start: 0, stop: 1, step: 2 });
// @ts-expect-error: no such dtype
builder.make("cast", [x], { dtype: "f64" });
// @ts-expect-error: optional attributes are left out, not undefined
builder.make("call", [x], { func: "f", result: 0, dtype: "f32", shape: [], layer: undefined });
builder.make("call", [x], { func: "f", result: 0, dtype: "f32", shape: [] });

// @ts-expect-error: nodes are immutable
x.attrs.name = "y";
// @ts-expect-error: shapes are immutable
x.type.shape[0] = 3;

const node: Node = x;
if (isOp(node, "topKValues")) node.attrs.k satisfies number;
// @ts-expect-error: attributes are known only once the op is
node.attrs.k satisfies number;

// @ts-expect-error: a table with a row per scalar op lacks some
({ neg: "-", abs: "abs" }) satisfies Record<ScalarOp, string>;
Object.keys(scalarOps).length satisfies number;

defineOp({
  arity: 1,
  kind: "opaque",
  attrs: { k: "int", scale: "number?" },
  doc: "An op.",
  infer: (_, attrs) => {
    attrs.k satisfies number;
    // @ts-expect-error: it may be missing
    attrs.scale satisfies number;
    // @ts-expect-error: not in the spec
    attrs.axis satisfies unknown;
    return tensorType("f32", []);
  },
});

"f8e4m3" satisfies DType;
"attention" satisfies OpName;
({ eps: 1 }) satisfies AttrsOf<"rmsNorm">;
