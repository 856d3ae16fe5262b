/** Fusion: what every grouping must satisfy, which ops join which kernel, and the kernels of the models' layers. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { attrsOf, type Func, getFunc, isOp, type Module, type Node, nameOf, topoOrder } from "../../src/ir/graph.ts";
import { opKind } from "../../src/ir/ops/all.ts";
import { printModule } from "../../src/ir/print.ts";
import { jsTarget } from "../../src/ir/target.ts";
import { parseModelConfigText } from "../../src/models/deepseek/config.ts";
import { buildModel } from "../../src/models/deepseek/model.ts";
import { weightExpressions } from "../../src/passes/constant.ts";
import { contractOperands } from "../../src/passes/contract-operands.ts";
import { type Fusion, fuse, type Group, isFree, isView } from "../../src/passes/fuse.ts";
import { runPasses } from "../../src/passes/pass.ts";
import { tensorPasses } from "../../src/passes/pipeline.ts";
import { type Build, moduleOf } from "../arb/module-of.ts";
import { arbModule } from "../arb/program.ts";
import { type GoldenName, goldenConfigText } from "../models/read-golden.ts";

const passed = (module: Module) => runPasses(module, tensorPasses(jsTarget, { optimize: true }), jsTarget);

function fused(func: Func): Fusion & { weights: ReadonlySet<Node> } {
  const weights = new Set(weightExpressions(func));
  return { ...fuse(func, jsTarget, { enabled: true, weights }), weights };
}

/** The nodes that a kernel computes: from its root down to buffers. */
function computedBy({ root }: Group, buffers: ReadonlySet<Node>): Set<Node> {
  return reached([root], (node) => node !== root && buffers.has(node));
}

function reached(from: readonly Node[], stop: (node: Node) => boolean): Set<Node> {
  const seen = new Set<Node>();
  const stack = [...from];
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (seen.has(node) || stop(node)) continue;
    seen.add(node);
    stack.push(...node.ins);
  }
  return seen;
}

/** Throws unless the grouping of the function is sound and wastes nothing. */
function checkFusion(func: Func): void {
  const { groups, buffers, weights } = fused(func);
  const needed = new Set<Node>(func.outs);
  for (const node of reached(func.outs, (each) => weights.has(each) && !func.outs.includes(each))) {
    if (isOp(node, "call")) for (const arg of node.ins) needed.add(arg);
    if (opKind(node.op) === "update") needed.add(node.ins[0]!);
  }
  for (const node of needed) expect(buffers.has(node), `${node.op} is in memory`).toBe(true);

  const order = topoOrder(func.outs);
  const external = (node: Node) => isOp(node, "param") || isOp(node, "call") || weights.has(node);
  const done = new Set(order.filter((node) => buffers.has(node) && !isOp(node, "call") && external(node)));
  const times = new Map<Node, number>();
  for (const group of groups) {
    expect(done.has(group.root), `${group.root.op} has one kernel`).toBe(false);
    const computed = computedBy(group, buffers);
    expect(computed.has(group.anchor)).toBe(true);
    for (const node of computed) {
      times.set(node, (times.get(node) ?? 0) + 1);
      const kind = opKind(node.op);
      if (kind === "contract" || kind === "opaque" || kind === "update" || kind === "composite")
        expect(node, "a kernel has one anchor").toBe(group.anchor);
      for (const x of node.ins) {
        if (buffers.has(x) && !isOp(x, "call"))
          expect(done.has(x), `${x.op} is made before ${group.root.op}`).toBe(true);
      }
    }
    done.add(group.root);
    if (isView(group.root))
      expect(needed.has(group.root), `the view ${group.root.op} need not be in memory`).toBe(true);
  }
  for (const [node, count] of times) if (!isFree(node)) expect(count, `${node.op} is computed once`).toBe(1);
  for (const { anchor } of groups) if (opKind(anchor.op) === "contract") checkStream(anchor, buffers);
}

/** What a contraction streams is read, not computed: views, and the index arithmetic of the rows that they choose. */
function checkStream(anchor: Node, buffers: ReadonlySet<Node>): void {
  const isIndex = (user: Node, x: Node) => isOp(user, "gather") && user.ins[1] === x;
  const visit = (node: Node): void => {
    if (buffers.has(node)) return;
    expect(isFree(node), `${node.op} is inside the innermost loop`).toBe(true);
    for (const x of node.ins) if (!isIndex(node, x)) visit(x);
  };
  visit(contractOperands(anchor).b);
}

test("every grouping of a random module is sound", () => {
  fc.assert(
    fc.property(arbModule({ maxSteps: 16 }), (module) => {
      const optimized = passed(module);
      for (const func of optimized.funcs.values()) {
        try {
          checkFusion(func);
        } catch (error) {
          throw new Error(`@${func.name}: ${error}\n${printModule(optimized)}`);
        }
      }
    }),
    { numRuns: 300 },
  );
});

const show = (node: Node) => nameOf(node) ?? node.op;

/** One line per kernel: `root = anchor after prologue then epilogue <- buffers`. */
function kernelsOf(func: Func): string {
  const { groups, buffers } = fused(func);
  const line = (group: Group): string => {
    const { root, anchor, staged } = group;
    const inside = computedBy(group, buffers);
    const below = reached(anchor.ins, (node) => buffers.has(node));
    const list = (nodes: Iterable<Node>) =>
      [...nodes]
        .sort((a, b) => a.id - b.id)
        .flatMap((node) => (isView(node) ? [] : [node.op]))
        .join(" ");
    const prologue = staged === null ? "" : ` after ${list(reached([staged], (node) => buffers.has(node)))}`;
    const rest = [...inside].filter((node) => node !== anchor && !below.has(node));
    const epilogue = root === anchor ? "" : ` then ${list(rest)}`;
    const attrs = attrsOf(anchor);
    const what = anchor.op === "contract" ? `contract(${String(attrs.axes)})` : anchor.op;
    const plain = root === anchor && staged === null ? list([...below]) : "";
    return `${show(root)} = ${what}${prologue}${epilogue}${plain === "" ? "" : ` of ${plain}`}`;
  };
  return groups.map(line).join("\n");
}

const kernels = (build: Build) => kernelsOf(getFunc(passed(moduleOf(build)), "main"));

describe("transformer pieces", () => {
  const [n, i, f] = [4, 8, 16];
  const linear = (m: Parameters<Build>[0], x: Node, name: string, o: number, d: number) =>
    m.named(name, m.contract("n i, o i -> n o", x, m.builder.weight(`${name}.weight`, "f32", [o, d])));

  test("a norm is staged, silu(gate) * up joins the gate, the residual joins the last product", () => {
    const text = kernels((m, p) => {
      const x = p("x", "f32", n, i);
      const h = m.rmsNorm(x, m.builder.weight("norm", "f32", [i]), 1e-6);
      const act = m.named("act", m.mul(m.silu(linear(m, h, "gate", f, i)), linear(m, h, "up", f, i)));
      return m.named("y", m.add(x, linear(m, act, "down", i, f)));
    });
    expect(text).toMatchInlineSnapshot(`
      "gate_up = contract(n i, o i -> n o) after mul reduceSum mul add rsqrt mul mul
      y = contract(n i, o i -> n o) after sigmoid mul mul then add"
    `);
  });

  test("two contractions that meet in one sum: the first takes it, the second is read", () => {
    const text = kernels((m, p) => {
      const [a, b] = [linear(m, p("x", "f32", n, i), "a", f, i), linear(m, p("z", "f32", n, f), "b", f, f)];
      return m.named("y", m.exp(m.add(a, b)));
    });
    expect(text).toMatchInlineSnapshot(`
      "b = contract(n i, o i -> n o)
      y = contract(n i, o i -> n o) then add exp"
    `);
  });

  test("a value that is needed twice ends the epilogue", () => {
    const text = kernels((m, p) => {
      const a = m.exp(linear(m, p("x", "f32", n, i), "a", f, i));
      return [m.named("y", m.neg(a)), m.named("sum", m.reduceSum(a))];
    });
    expect(text).toMatchInlineSnapshot(`
      "exp = contract(n i, o i -> n o) then exp
      y = neg
      sum = reduceSum"
    `);
  });

  test("attention is one kernel, with its query's arithmetic", () => {
    const text = kernels((m, p) => {
      const [q, k, v] = [p("q", "f32", n, 4, 2), p("cache_k", "f32", 9, 4), p("cache_v", "f32", 9, 4)];
      const rows = p("rows", "i32", 2, 6);
      const gathered = (cache: Node) => m.reshape(m.gather(cache, rows), [2, 6, 2, 2]);
      const turned = m.rope(q, p("cos", "f32", n, 1), p("sin", "f32", n, 1), false);
      const [positions, sequence] = [p("positions", "i32", n), p("sequence", "i32", n)];
      return m.named("y", m.attention(turned, gathered(k), gathered(v), positions, sequence, 0.5));
    });
    expect(text).toMatchInlineSnapshot(`"y = attention after mul mul sub mul mul add concat"`);
  });

  test("long chains are cut, between kernels of bounded size", () => {
    const module = passed(
      moduleOf((m, p) => {
        let x = p("x", "f32", n, i);
        for (let k = 0; k < 500; k++) x = k % 2 === 0 ? m.sin(x) : m.transpose(m.reshape(x, [i, n]), [1, 0]);
        return x;
      }),
    );
    const func = getFunc(module, "main");
    checkFusion(func);
    const { groups, buffers } = fused(func);
    expect(groups.length).toBeGreaterThan(3);
    for (const group of groups) expect(computedBy(group, buffers).size).toBeLessThan(130);
  });
});

describe("models", () => {
  const bucket = { tokens: 2, sequences: 2, blocks: 2, outputs: 1, blockSize: 4, slots: 16, ropeRows: 8 };
  const model = (name: GoldenName) => passed(buildModel(parseModelConfigText(goldenConfigText(name)), bucket));

  test.each(["qwen2-distill", "qwen3-distill", "v2-lite", "v2", "v3", "v3-fp8"] as const)("%s is sound", (name) => {
    for (const func of model(name).funcs.values()) checkFusion(func);
  });

  test("a layer with grouped-query attention", () => {
    expect(kernelsOf(getFunc(model("qwen2-distill"), "dense_block"))).toMatchInlineSnapshot(`
      "contract = contract(n i, o i -> n o) after mul reduceSum mul add rsqrt mul mul
      key_cache = updateRows of add mul mul sub mul mul add concat
      value_cache = updateRows of add
      heads = attention after add mul mul sub mul mul add concat
      x_mid = contract(n i, o i -> n o) then add
      gate_up = contract(n i, o i -> n o) after mul reduceSum mul add rsqrt mul mul
      x_out = contract(n i, o i -> n o) after sigmoid mul mul then add"
    `);
  });

  test("a layer with latent attention", () => {
    expect(kernelsOf(getFunc(model("v2-lite"), "dense_block"))).toMatchInlineSnapshot(`
      "contract = contract(n i, o i -> n o) after mul reduceSum mul add rsqrt mul mul
      q_latent = contract(n h d, h d r -> n h r)
      cache = updateRows of mul reduceSum mul add rsqrt mul mul mul mul sub mul mul add concat concat
      attended = attention after mul mul sub mul mul add concat concat
      heads = contract(n h r, h d r -> n h d)
      x_mid = contract(n i, o i -> n o) then add
      gate_up = contract(n i, o i -> n o) after mul reduceSum mul add rsqrt mul mul
      x_out = contract(n i, o i -> n o) after sigmoid mul mul then add"
    `);
  });

  test("a layer with experts", () => {
    expect(kernelsOf(getFunc(model("v3"), "moe_block"))).toMatchInlineSnapshot(`
      "q_a_kv_a = contract(n i, o i -> n o) after mul reduceSum mul add rsqrt mul mul
      contract = contract(n i, o i -> n o) after mul reduceSum div add rsqrt mul mul
      q_latent = contract(n h d, h d r -> n h r)
      cache = updateRows of mul reduceSum mul add rsqrt mul mul mul mul sub mul mul add concat concat
      attended = attention after mul mul sub mul mul add concat concat
      heads = contract(n h r, h d r -> n h d)
      x_mid = contract(n i, o i -> n o) then add
      mlp_in = mul of mul reduceSum mul add rsqrt mul
      router_logits_gate_up = contract(n i, o i -> n o)
      scores = sigmoid
      ranking = add
      topKValues = topKValues
      topKIndices = topKIndices of reduceSum
      experts = topKIndices of eq cast reduceMax gt select
      expert_gate_expert_up = contract(n i, n k f i -> n k f)
      shared = contract(n i, o i -> n o) after sigmoid mul mul
      x_out = contract(n k f, n k i f -> n i) after sigmoid mul mul reduceSum add div mul mul then add add"
    `);
  });
});
