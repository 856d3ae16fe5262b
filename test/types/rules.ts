/** What must not compile: a right-hand side that names an unbound variable, and a table that lacks a row. */

import type { CompositeOp } from "../../src/ir/ops/all.ts";
import { named, p, rule, v } from "../../src/ir/pattern.ts";
import { expansions } from "../../src/passes/expand.ts";

export const fine = rule("fine", p("add", v("x"), p("neg", v("y"))), ({ x, y }, { sub }) => sub(x, y));

// @ts-expect-error z is not bound by the pattern
export const unbound = rule("unbound", p("add", v("x"), v("y")), ({ x, z }, { sub }) => sub(x, z));

// @ts-expect-error and neither may the side condition name it
export const when = rule("when", p("neg", v("x")), ({ x }) => x, { when: ({ y }) => y !== undefined });

const turned = p("neg", named("t", p("transpose", v("x"))));
// @ts-expect-error a transpose has no attribute `shape`
export const attrs = rule("attrs", turned, ({ t }, { full }) => full("f32", t.attrs.shape, 0));

// @ts-expect-error there is no such op
export const op = rule("op", p("nosuch", v("x")), ({ x }) => x);

const { silu: _, ...others } = expansions;
// @ts-expect-error silu has no expansion
export const table = others satisfies Record<CompositeOp, unknown>;
