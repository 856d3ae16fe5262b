/** Rows chosen by index. All exact; indices are clamped to the table (see the op). */
import { named, p, type Rule, rule, v } from "../../ir/pattern.ts";

const [x, i, j] = [v("x"), v("i"), v("j")];

export const gathers: readonly Rule[] = [
  rule("gather_reshape", p("gather", x, p("reshape", i)), ({ x, i }, { gather, reshape }, root) =>
    reshape(gather(x, i), root.type.shape),
  ),
  // A table of one row always gives that row.
  rule(
    "gather_one_row",
    p("gather", x, i),
    ({ x, i }, { broadcast, reshape }, root) => {
      const ones = i.type.shape.map(() => 1);
      return broadcast(reshape(x, [...ones, ...x.type.shape.slice(1)]), root.type.shape);
    },
    { when: ({ x }) => x.type.shape[0] === 1 },
  ),
  rule("gather_gather", p("gather", p("gather", x, i), j), ({ x, i, j }, { gather }) => gather(x, gather(i, j)), {
    when: ({ i }) => i.type.shape.length > 0,
  }),
  rule("gather_iota", p("gather", x, named("all", p("iota"))), ({ x }) => x, {
    when: ({ x, all }) => all.type.shape.length === 1 && all.type.shape[0] === x.type.shape[0],
  }),
];
