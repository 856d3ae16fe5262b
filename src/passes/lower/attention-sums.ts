/**
 * What the teams of a workgroup found about their keys, put together: each scales its sums to the largest score of all, and
 * leaves them in memory that the workgroup shares, some heads at a time; then every invocation adds up some columns.
 */
import type { Node } from "../../ir/graph.ts";
import {
  type Buf,
  type Expr,
  extract,
  iadd,
  idiv,
  imul,
  int,
  irem,
  load,
  num,
  op,
  type Stmt,
  select,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign, barrier, store, when } from "../../ir/kernel/stmt.ts";
import { lowest } from "./attention-rows.ts";
import { type Sums, vectorAt, type Walk } from "./attention-walk.ts";
import { flatten, range } from "./index-math.ts";
import type { Together } from "./writer.ts";

interface Place {
  readonly together: Together;
  /** The invocation's team among all of the workgroup. */
  readonly team: Expr;
  readonly token: Expr;
  readonly part: Expr;
  /** The workgroup's first head, and the end of those that share its keys. */
  readonly first: Expr;
  readonly end: Expr;
}

/** What all teams of a workgroup have in memory, by team and head; columns of some heads at a time. */
interface Shared {
  readonly mosts: Buf;
  readonly totals: Buf;
  readonly columns: Buf;
}

/** Heads whose columns are in memory together, by their numbers among a team's. */
interface Round {
  readonly from: number;
  readonly count: number;
}

/** Stores the quotients of sums for a whole walk, and sums for a part. */
export function storeSums(walk: Walk, sums: readonly Sums[], anchor: Node, place: Place): void {
  const { w, heads, headTeams, teams, putTogether, values } = walk;
  const all = headTeams * teams;
  const shared = {
    mosts: w.shared("mosts", "f32", all * heads),
    totals: w.shared("totals", "f32", all * heads),
    columns: w.shared("columns", "f32", all * putTogether * values.e),
  };
  const shrinks = shareTotals(walk, sums, shared, place);
  for (let from = 0; from < heads; from += putTogether) {
    const round = { from, count: Math.min(putTogether, heads - from) };
    if (from > 0) w.emit(barrier);
    shareColumns(walk, sums, shrinks, { columns: shared.columns, team: place.team, round });
    w.emit(barrier);
    const vectors = headTeams * round.count * (values.e / walk.lanes);
    w.strided(place.together, "j", vectors, (each) => addUp(walk, shared, anchor, { place, round, each }));
  }
}

/** By what each head's sums of this team are to be multiplied. */
function shareTotals(walk: Walk, sums: readonly Sums[], { mosts, totals }: Shared, { team }: Place): Expr[] {
  const { w, heads, teams } = walk;
  const leads = op("eq", walk.place, int(0));
  const own = (head: number) => iadd(imul(team, int(heads)), int(head));
  const putMosts = sums.map(({ most }, head) => store(mosts, own(head), most));
  w.emit(when(leads, putMosts));
  w.emit(barrier);
  // The teams of the same heads follow one another.
  const first = w.bind("first_team", imul(idiv(team, int(teams)), int(teams)));
  const shrinks = sums.map(({ most }, head) => {
    const largest = range(teams)
      .map((i): Expr => load(mosts, iadd(imul(iadd(first, int(i)), int(heads)), int(head))))
      .reduce((a, b) => op("max", a, b));
    return w.bind("shrink", op("exp", op("sub", most, w.bind("largest", largest))));
  });
  const putTotals = sums.map(({ total }, head) => store(totals, own(head), op("mul", total, shrinks[head]!)));
  w.emit(when(leads, putTotals));
  return shrinks;
}

function shareColumns(
  walk: Walk,
  sums: readonly Sums[],
  shrinks: readonly Expr[],
  { columns, team, round }: { readonly columns: Buf; readonly team: Expr; readonly round: Round },
): void {
  const { w, lanes, putTogether } = walk;
  const { e } = walk.values;
  for (const x of range(round.count)) {
    const row = imul(iadd(imul(team, int(putTogether)), int(x)), int(e));
    for (const [i, column] of sums[round.from + x]!.columns.entries()) {
      const { at, inside, whole } = vectorAt(walk, i, e);
      const put = store(columns, iadd(row, at), op("mul", column, splat(shrinks[round.from + x]!, lanes)));
      w.emit(whole ? put : when(op("lt", inside, int(e)), [put]));
    }
  }
}

/** Adds up and stores the `each`-th vector of columns of a round. */
function addUp(
  walk: Walk,
  { mosts, totals, columns }: Shared,
  anchor: Node,
  { place, round, each }: { readonly place: Place; readonly round: Round; readonly each: Expr },
): void {
  const { w, lanes, heads, teams, putTogether, visible } = walk;
  const { e } = walk.values;
  const { shape } = anchor.type;
  const isPart = shape.length > 3;
  const vectors = e / lanes;
  const column = w.bind("column", imul(irem(each, int(vectors)), int(lanes)));
  const x = w.bind("x", irem(idiv(each, int(vectors)), int(round.count)));
  const sharing = w.bind("sharing", idiv(each, int(vectors * round.count)));
  const head = iadd(x, int(round.from));
  const sum = w.variable("sum", splat(num("f32", 0), lanes));
  const total = w.variable("total", num("f32", 0));
  const most = isPart ? w.variable("most", lowest) : undefined;
  w.loop("i", teams, (i) => {
    const team = w.bind("from", iadd(imul(sharing, int(teams)), i));
    const one = iadd(imul(team, int(heads)), head);
    const row = imul(iadd(imul(team, int(putTogether)), x), int(e));
    w.emit(assign(sum.name, op("add", sum, load(columns, iadd(row, column), lanes))));
    w.emit(assign(total.name, op("add", total, load(totals, one))));
    if (most !== undefined) w.emit(assign(most.name, op("max", most, load(mosts, one))));
  });
  const own = w.bind("head", iadd(place.first, iadd(imul(sharing, int(heads)), head)));
  const offset = (j: Expr) => flatten([place.token, own, ...(isPart ? [place.part] : []), j], shape);
  // A token that sees no key gets 0.
  const divisor = w.bind("divisor", select(op("gt", visible, int(0)), total, num("f32", 1)));
  const quotient = (value: Expr) => (isPart ? value : op("div", value, divisor));
  const stores: Stmt[] = range(lanes).map((lane) =>
    store(w.out, offset(iadd(column, int(lane))), quotient(extract(sum, lane))),
  );
  if (most !== undefined) {
    const last = [store(w.out, offset(int(e)), most), store(w.out, offset(int(e + 1)), total)];
    stores.push(when(op("eq", column, int(0)), last));
  }
  w.emit(when(op("lt", own, place.end), stores));
}
