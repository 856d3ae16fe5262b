/** The pattern matcher and the rewriting driver. */
import { describe, expect, test } from "vitest";
import { maths } from "../../src/ir/build.ts";
import { Builder, type Node, named as nameNode, nameOf } from "../../src/ir/graph.ts";
import { c, match, named, p, type Rule, rule, v } from "../../src/ir/pattern.ts";
import { type Match, rewriter } from "../../src/ir/rewrite.ts";

const builder = new Builder();
const { abs, add, mul, neg, full, sub } = maths(builder);
const [x, y] = [builder.param("x", "f32", [2]), builder.param("y", "f32", [2])];
const one = full("f32", [2], 1);

describe("match", () => {
  const all = (...args: [Parameters<typeof match>[0], Node]) => [...match(...args, {})];

  test("operands of commutative ops are tried both ways, others are not", () => {
    expect(all(p("mul", c(1), v("a")), mul(x, one))).toEqual([{ a: x }]);
    expect(all(p("sub", c(1), v("a")), sub(x, one))).toEqual([]);
    expect(all(p("add", v("a"), v("b")), add(x, y))).toHaveLength(2);
  });

  test("the same variable asks for the same node, also across a swap", () => {
    const pattern = p("add", p("neg", v("a")), v("a"));
    expect(all(pattern, add(x, neg(x)))).toEqual([{ a: x }]);
    expect(all(pattern, add(y, neg(x)))).toEqual([]);
    const nested = p("add", p("mul", v("a"), v("b")), v("b"));
    expect(all(nested, add(mul(x, y), x))).toEqual([{ a: y, b: x }]);
  });

  test("constants tell zeros apart and are of the dtype's value", () => {
    expect(all(p("neg", c(0)), neg(full("f32", [2], -0)))).toEqual([]);
    expect(all(p("neg", c(0)), neg(full("i32", [2], -0)))).toHaveLength(1);
    expect(all(p("neg", c(Math.fround(0.1))), neg(full("f32", [2], 0.1)))).toHaveLength(1);
  });

  test("a named op pattern binds its node; without operands it takes any", () => {
    expect(all(named("n", p("add")), add(x, y))).toEqual([{ n: add(x, y) }]);
  });

  test("a pattern with a wrong number of operands is refused", () => {
    expect(() => p("add", v("a"))).toThrow("add takes 2 operands, got 1");
  });
});

const negNeg = rule("neg_neg", p("neg", p("neg", v("x"))), ({ x }) => x);
const apply = (rules: readonly Rule[], node: Node, options = {}) => rewriter(rules, builder, options)([node])[0];

describe("rewriter", () => {
  test("works bottom-up to a fixed point and reports each match", () => {
    const matches: Match[] = [];
    const start = abs(add(neg(neg(x)), neg(neg(neg(y)))));
    expect(apply([negNeg], start, { onMatch: (match: Match) => matches.push(match) })).toBe(abs(add(x, neg(y))));
    expect(matches.map(({ rule: name }) => name)).toEqual(["neg_neg", "neg_neg"]);
  });

  test("returns the same object where nothing matches", () => {
    const start = add(neg(x), y);
    expect(apply([negNeg], start)).toBe(start);
  });

  test("disabled rules are left out", () => {
    const start = neg(neg(x));
    expect(apply([negNeg], start, { disabled: ["neg_neg"] })).toBe(start);
  });

  test("is not bounded by the call stack", () => {
    let deep: Node = x;
    for (let i = 0; i < 30_000; i++) deep = neg(deep);
    expect(apply([negNeg], deep)).toBe(x);
  });

  test("shared parts are rewritten once", () => {
    let shared: Node = neg(neg(x));
    for (let i = 0; i < 40; i++) shared = add(shared, shared); // 2^40 paths
    const matches: Match[] = [];
    apply([negNeg], shared, { onMatch: (match: Match) => matches.push(match) });
    expect(matches).toHaveLength(1);
  });

  test("refuses to change a type", () => {
    const wrong = rule("wrong", p("neg", v("x")), (_, { full }) => full("f32", [3], 0));
    expect(() => apply([wrong], neg(x))).toThrow("rule wrong: changes neg of type f32[2] to full of type f32[3]");
  });

  test("names the rule that never ends: growing, going back and forth, or changing nothing", () => {
    const grow = rule("grow", p("abs", v("x")), ({ x }, { abs, neg }) => abs(neg(x)));
    expect(() => apply([grow], abs(x), { limit: 50 })).toThrow("rule grow: rewriting does not end");
    const there = rule("there", p("add", v("x"), v("y")), ({ x, y }, { mul }) => mul(x, y));
    const back = rule("back", p("mul", v("x"), v("y")), ({ x, y }, { add }) => add(x, y));
    expect(() => apply([there, back], add(x, y))).toThrow("rule back: rewriting does not end");
    const around = rule("around", p("neg", v("x")), ({ x }, { neg }) => neg(neg(neg(x))));
    expect(() => apply([around], neg(x), { limit: 50 })).toThrow("rule around: rewriting does not end");
    const idle = rule("idle", p("neg", v("x")), (_, __, root) => root);
    expect(() => apply([idle], neg(x))).toThrow("rule idle: rewriting does not end");
  });

  test("a replacement takes over the printed name, a parameter keeps its own", () => {
    const subNeg = rule("sub_neg", p("sub", v("x"), p("neg", v("y"))), ({ x, y }, { add }) => add(x, y));
    expect(nameOf(apply([subNeg], nameNode("total", sub(y, neg(x))))!)).toBe("total");
    expect(nameOf(apply([negNeg], nameNode("twice", neg(neg(y))))!)).toBe("y");
  });
});
