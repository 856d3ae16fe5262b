/**
 * Rewrite rules for collectives: fewer of them, smaller ones, or none. What a rule moves past a collective is computed by
 * each device on its own part. Where sums are regrouped the rule says so.
 */
import { showAttrs } from "../../ir/attrs.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import { parseOver } from "../../ir/mesh.ts";
import { named, p, type Rule, rule, v } from "../../ir/pattern.ts";
import { sameShape } from "../../ir/types.ts";

const [x, y] = [v("x"), v("y")];

/** A group of one has nothing to exchange. */
const alone: readonly Rule[] = (["shard", "allReduce", "reduceScatter", "allGather", "allToAll"] as const).map((op) =>
  rule(`${op}_alone`, p(op, x), ({ x }) => x, { when: (_, root) => attrsOf(root).parts === 1 }),
);

const inner = { gather: named("g", p("allGather", x)), reduce: named("r", p("allReduce", x)) };

/** Devices take their own part of what they all have. */
const parts: readonly Rule[] = [
  rule("shard_allGather", p("shard", inner.gather), ({ x }) => x, {
    when: ({ g }, { attrs }) => g.attrs.axis === attrs.axis && g.attrs.over === attrs.over,
  }),
  rule(
    "shard_allReduce",
    p("shard", inner.reduce),
    ({ x, r }, { builder }, { attrs: { axis, over, parts } }) =>
      builder.make("reduceScatter", [x], { over, parts, by: r.attrs.by, axis }),
    { when: ({ r }, { attrs }) => r.attrs.over === attrs.over },
  ),
  // A sum over more axes than the part: scattered over these, the rest is added up on a part.
  rule(
    "shard_allReduce_some",
    p("shard", inner.reduce),
    ({ x, r }, { builder }, { attrs: { axis, over, parts } }) => {
      const { by } = r.attrs;
      const rest = parseOver(r.attrs.over).filter((each) => !parseOver(over).includes(each));
      const scattered = builder.make("reduceScatter", [x], { over, parts, by, axis });
      return builder.make("allReduce", [scattered], { over: rest.join(" "), parts: r.attrs.parts / parts, by });
    },
    {
      class: "reassociates",
      when: ({ r }, { attrs }) =>
        r.attrs.over !== attrs.over && parseOver(attrs.over).every((each) => parseOver(r.attrs.over).includes(each)),
    },
  ),
  rule("shard_full", p("shard", named("k", p("full"))), ({ k }, { full }, { type }) =>
    full(type.dtype, type.shape, k.attrs.value),
  ),
  rule(
    "shard_iota",
    p("shard", named("i", p("iota"))),
    ({ i }, { iota }, { type }) => iota(type.dtype, type.shape, i.attrs.axis),
    {
      when: ({ i }, { attrs }) => i.attrs.axis !== attrs.axis,
    },
  ),
  rule("shard_broadcast", p("shard", named("b", p("broadcast", x))), ({ x, b }, build, root) => {
    const at = root.attrs.axis - (b.type.shape.length - x.type.shape.length);
    const repeated = at < 0 || x.type.shape[at] !== b.type.shape[root.attrs.axis];
    const part = repeated ? x : build.builder.make("shard", [x], { ...root.attrs, axis: at });
    return build.broadcast(part, root.type.shape);
  }),
  // Of several axes in a row, one group.
  rule(
    "shard_shard",
    p("shard", named("s", p("shard", x))),
    ({ x, s }, { builder }, { attrs: { axis, over, parts } }) =>
      builder.make("shard", [x], { axis, over: `${s.attrs.over} ${over}`, parts: parts * s.attrs.parts }),
    { when: ({ s }, { attrs }) => s.attrs.axis === attrs.axis },
  ),
];

const sums: readonly Rule[] = [
  rule(
    "add_allReduce",
    p("add", named("a", p("allReduce", x)), named("b", p("allReduce", y))),
    ({ x, y, a }, { add, builder }) => builder.make("allReduce", [add(x, y)], a.attrs),
    { class: "reassociates", when: ({ a, b }) => a.attrs.by === "sum" && sameGroup(a, b) },
  ),
  rule(
    "allReduce_allReduce",
    p("allReduce", inner.reduce),
    ({ x, r }, { builder }, { attrs: { over, parts, by } }) =>
      builder.make("allReduce", [x], { over: `${r.attrs.over} ${over}`, parts: parts * r.attrs.parts, by }),
    {
      class: "reassociates",
      when: ({ r }, { attrs }) => r.attrs.by === attrs.by && disjoint(r.attrs.over, attrs.over),
    },
  ),
  rule(
    "allGather_reduceScatter",
    p("allGather", named("s", p("reduceScatter", x))),
    ({ x, s }, { builder }) =>
      builder.make("allReduce", [x], { over: s.attrs.over, parts: s.attrs.parts, by: s.attrs.by }),
    { when: ({ s }, { attrs }) => s.attrs.axis === attrs.axis && s.attrs.over === attrs.over },
  ),
];

const exchanges: readonly Rule[] = [
  rule("allToAll_back", p("allToAll", named("a", p("allToAll", x))), ({ x }) => x, {
    when: ({ a }, { attrs }) =>
      a.attrs.split === attrs.concat && a.attrs.concat === attrs.split && a.attrs.over === attrs.over,
  }),
  // Part i of what was exchanged along the axis that is gathered again: only the gathering is left.
  rule(
    "allGather_allToAll",
    p("allGather", named("a", p("allToAll", x))),
    ({ x, a }, { builder }) =>
      builder.make("allGather", [x], { over: a.attrs.over, parts: a.attrs.parts, axis: a.attrs.concat }),
    { when: ({ a }, { attrs }) => a.attrs.split === attrs.axis && a.attrs.over === attrs.over },
  ),
  // What is repeated is exchanged once.
  rule("allGather_broadcast", p("allGather", named("b", p("broadcast", x))), ({ x, b }, build, root) => {
    const { axis } = root.attrs;
    const at = axis - (b.type.shape.length - x.type.shape.length);
    const repeated = at < 0 || x.type.shape[at] !== b.type.shape[axis];
    const all = repeated ? x : build.builder.make("allGather", [x], { ...root.attrs, axis: at });
    return build.broadcast(all, root.type.shape);
  }),
  // Elements that only change shape are exchanged once.
  rule(
    "reshape_allReduce",
    p("reshape", inner.reduce),
    ({ x, r }, { builder, reshape }, root) => builder.make("allReduce", [reshape(x, root.type.shape)], r.attrs),
    { when: ({ x }, root) => !sameShape(x.type.shape, root.type.shape) },
  ),
];

function sameGroup(a: Node, b: Node): boolean {
  return showAttrs(a.attrs) === showAttrs(b.attrs);
}

function disjoint(a: string, b: string): boolean {
  const names = new Set(parseOver(a));
  return parseOver(b).every((name) => !names.has(name));
}

export const collectiveRules: readonly Rule[] = [...alone, ...parts, ...sums, ...exchanges];
