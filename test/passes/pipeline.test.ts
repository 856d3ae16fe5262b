/** The whole pipeline on a block of a DeepSeek model written the way models write it. */
import { describe, expect, test } from "vitest";
import { maths } from "../../src/ir/build.ts";
import { Builder, type Func, getFunc, type Module, makeModule, type Node, topoOrder } from "../../src/ir/graph.ts";
import { jsTarget } from "../../src/ir/target.ts";
import { weightExpressions } from "../../src/passes/constant.ts";
import { tracing } from "../../src/passes/instruments.ts";
import { type Instrument, runPasses } from "../../src/passes/pass.ts";
import { type PipelineOptions, tensorPasses } from "../../src/passes/pipeline.ts";

/** n tokens, b sequences of s keys, h heads; widths as in the configuration of a tiny DeepSeek-V3. */
const [n, b, s, h, d, p, e, r, q, hidden, f] = [2, 2, 8, 2, 4, 2, 3, 4, 6, 8, 5] as const;

function block(): Module {
  const builder = new Builder();
  const { attention, add, broadcast, concat, contract, gather, mul, reshape, rmsNorm, rope, silu } = maths(builder);
  const { slice, sigmoid, topKIndices, topKValues, updateRows, reduceSum, expandLast, transpose } = maths(builder);
  const params: Node<"param">[] = [];
  const param = (name: string, dtype: "f32" | "i32", shape: number[]) => {
    params.push(builder.param(name, dtype, shape));
    return params.at(-1)!;
  };
  const weight = (name: string, ...shape: number[]) => builder.weight(name, "bf16", shape);
  const linear = (x: Node, name: string, out: number) =>
    contract("n i, o i -> n o", x, weight(name, out, x.type.shape[1]!));

  const x = param("x", "f32", [n, hidden]);
  const [positions, sequence, slots] = ["positions", "sequence", "slots"].map((name) => param(name, "i32", [n]));
  const table = param("table", "i32", [b, 2]);
  const [cos, sin] = ["cos", "sin"].map((name) => param(name, "f32", [n, p / 2]));
  const cache = param("cache", "f32", [6, 4, r + p]); // blocks of 4 rows

  const norm = rmsNorm(x, weight("norm", hidden), 1e-6);
  const qAll = reshape(linear(rmsNorm(linear(norm, "q_a", q), weight("q_norm", q), 1e-6), "q_b", h * (d + p)), [
    n,
    h,
    d + p,
  ]);
  const queries = concat(2, slice(qAll, 2, 0, d), rope(slice(qAll, 2, d, d + p), cos!, sin!, true));
  const kv = linear(norm, "kv_a", r + p);
  const latent = rmsNorm(slice(kv, 1, 0, r), weight("kv_norm", r), 1e-6);
  const kRope = reshape(rope(reshape(slice(kv, 1, r, r + p), [n, 1, p]), cos!, sin!, true), [n, p]);
  const updated = reshape(updateRows(reshape(cache, [24, r + p]), concat(1, latent, kRope), slots!), [6, 4, r + p]);
  const rows = reshape(gather(updated, table), [b, s, r + p]);
  const c = slice(rows, 2, 0, r);
  const kP = broadcast(reshape(slice(rows, 2, r, r + p), [b, s, 1, p]), [b, s, h, p]);
  const k = concat(3, contract("b s r, h d r -> b s h d", c, weight("w_uk", h, d, r)), kP);
  const v = contract("b s r, h e r -> b s h e", c, weight("w_uv", h, e, r));
  const attended = reshape(attention(queries, k, v, positions!, sequence!, 0.4), [n, h * e]);
  const middle = add(x, linear(attended, "o", hidden));

  const y = rmsNorm(middle, weight("ffn_norm", hidden), 1e-6);
  const scores = sigmoid(linear(y, "router", 4));
  const [chosen, gates] = [topKIndices(scores, 2), topKValues(scores, 2)];
  const expert = (name: string, out: number, width: number) =>
    gather(weight(`experts.{0}.${name}`, 4, out, width), chosen);
  const gate = contract("n i, n k f i -> n k f", y, expert("gate", f, hidden));
  const up = contract("n i, n k f i -> n k f", y, expert("up", f, hidden));
  const down = contract("n k f, n k i f -> n k i", mul(silu(gate), up), expert("down", hidden, f));
  const routed = reduceSum(transpose(mul(down, expandLast(gates)), [0, 2, 1]));
  const shared = linear(mul(silu(linear(y, "shared.gate", f)), linear(y, "shared.up", f)), "shared.down", hidden);
  const outs = [add(add(middle, routed), shared), updated];
  return makeModule("block", [{ name: "main", params, outs }], "main");
}

function compiled(options: PipelineOptions, instruments: readonly Instrument[] = []): Func {
  const module = runPasses(block(), tensorPasses(jsTarget, options), jsTarget, { verify: 3, instruments });
  return getFunc(module, "main");
}

const count = (func: Func, op: string) => topoOrder(func.outs).filter((node) => node.op === op).length;

describe.each(["absorbed", "plain"] as const)("latent attention %s", (form) => {
  const { instrument, trace } = tracing();
  const func = compiled({ absorb: { form } }, [instrument]);

  test("sibling projections are merged", () => {
    // q_a with kv_a, q_b, two around attention, o, router with shared gate and up, expert gate with up, two downs.
    expect(count(func, "contract")).toBe(9);
  });

  test("attention stays, and reads the cache's rows whole where absorbed", () => {
    const [attention] = topoOrder(func.outs).filter((node) => node.op === "attention");
    expect(attention!.ins[1]!.type.shape).toEqual(form === "absorbed" ? [b, s, 1, r + p] : [b, s, h, d + p]);
    if (form === "absorbed") expect(attention!.ins[1]!.ins[0]!.op).toBe("gather");
  });

  test("every weight is read through one expression of f32", () => {
    const expressions = weightExpressions(func);
    expect(expressions.map((node) => node.type.dtype)).toEqual(expressions.map(() => "f32"));
    expect(expressions.map((node) => node.op)).toEqual(expressions.map(() => "cast"));
  });

  test("the trace has every pass", () => {
    expect(trace.passes.map((pass) => pass.name)).toEqual(tensorPasses(jsTarget).map((pass) => pass.name));
  });
});

test("without optimisation every composite is taken apart", () => {
  const func = compiled({ optimize: false });
  expect(count(func, "attention")).toBe(0);
  expect(count(func, "contract")).toBe(15);
});
