/**
 * Lowering of `dotGroups` with chosen weights (a mixture's experts) for GPUs and many tokens: a workgroup has one expert's
 * tile of rows and computes it for all tokens that chose the expert, so that its weights are read once for them and not once
 * for each. Which these are, its invocations find out from all choices (*picks*: a token's choice number k) and keep as a list in
 * shared memory; then tiles of picks are computed as tiles of tokens are (`dot-tokens.ts`).
 */
import type { Node } from "../../ir/graph.ts";
import { type Buf, type Expr, iadd, int, isub, load, op, ref } from "../../ir/kernel/kernel.ts";
import { assign, barrier, note, store, variable, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { type Dot, readsSums } from "./dot-group-parts.ts";
import { chosenBy } from "./dot-pairs.ts";
import { chooseTokenTile } from "./dot-token-choice.ts";
import { blocksOf, tileNote, tokenTile } from "./dot-tokens.ts";
import { clampTo, unflatten } from "./index-math.ts";
import type { Together } from "./writer.ts";

/** Picks of an expert, on average, from which on it is worth to look for them. */
const worth = 4;

/** Says whether it lowered: the weights are one table's, chosen by picks in memory that are many for each expert. */
export function lowerDotExperts(dot: Dot, workgroup: Workgroup): boolean {
  const { w, group, lead, blocks, groups } = dot;
  const operands = group.anchor.ins.slice(3);
  const chosen = chosenBy(operands, lead);
  const inMemory = operands.every((node) => !w.isBuffer(node) && node.ins.every((each) => w.isBuffer(each)));
  if (chosen === undefined || !inMemory) return false;
  const { index: picks, weights: experts } = chosen;
  const count = lead.reduce((a, b) => a * b, 1);
  const average = Math.floor(count / experts);
  // The list is as long as if all had chosen the same; counts, and what they are combined by.
  const rest = { ...workgroup, bytes: workgroup.bytes - 4 * count - 10 * workgroup.invocations };
  if (average < worth || rest.bytes < 8192) return false;
  const product = { blocks, groups, tokens: average, block: dot.block, sums: readsSums(dot), copies: experts };
  const tile = chooseTokenTile(product, rest);
  const size = tile.invocations;
  w.emit(note(`${tileNote(tile, dot)}, of the tokens that chose an expert`));
  const list = w.shared("picked", "i32", count);
  const counts = w.shared("counts", "i32", size);
  const ofExpert = (expert: Expr) => (block: Expr) =>
    w.workgroup(size, (together) => {
      const table = (node: Node) => ({ node: node.ins[0]!, lead: [expert] });
      const write = tokenTile({ ...dot, table }, tile);
      const found = findPicks(dot, together, { picks, expert, experts, list, counts, count });
      const step = (first: Expr) => {
        const token = (t: Expr) => {
          const at = clampTo(op("min", iadd(first, t), isub(found, int(1))), count);
          return unflatten(w.bind("pick", clampTo(load(list, at), count)), lead);
        };
        write({ block, token, inside: (t) => op("lt", iadd(first, t), found) }, together);
      };
      w.loop("first", found, step, "serial", tile.tokens);
    });
  const each = (expert: Expr) => w.loop("b", blocks, ofExpert(expert), "grid", blocksOf(tile));
  w.loop("expert", experts, each, "grid");
  return true;
}

interface Search {
  readonly picks: Node;
  readonly expert: Expr;
  readonly experts: number;
  readonly list: Buf;
  /** How many each invocation has found. */
  readonly counts: Buf;
  readonly count: number;
}

/** Lists the picks of an expert; gives their number. */
function findPicks({ w }: Dot, together: Together, { picks, expert, experts, list, counts, count }: Search): Expr {
  const { lane, size } = together;
  const each = (body: (pick: Expr) => void) =>
    w.strided(together, "pick", count, (pick) => {
      const idx = unflatten(pick, picks.type.shape);
      // As `gather` does with what is beyond its table.
      const mine = op("eq", clampTo(w.value(picks, idx), experts), expert);
      w.emit(
        when(
          mine,
          w.nested(() => body(pick)),
        ),
      );
    });
  const own = ref(w.unique("own"));
  w.emit(variable(own.name, int(0)));
  each(() => w.emit(assign(own.name, iadd(own, int(1)))));
  w.emit(store(counts, lane, own));
  const all = w.combine("found", "add", own, size);
  w.emit(barrier);
  const next = ref(w.unique("next"));
  w.emit(variable(next.name, int(0)));
  w.loop("before", lane, (before) => w.emit(assign(next.name, iadd(next, load(counts, before)))));
  each((pick) => {
    // The clamp changes nothing: no more are found than there are.
    w.emit(store(list, clampTo(next, count), pick));
    w.emit(assign(next.name, iadd(next, int(1))));
  });
  w.emit(barrier);
  return all;
}
