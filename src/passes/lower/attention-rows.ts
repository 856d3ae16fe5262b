/** What the forms of attention share: how keys and values are read, several columns at once where they lie side by side in memory. */
import type { Node } from "../../ir/graph.ts";
import { cast, type Expr, iadd, imul, int, intrinsic, type Load, load, num, op, ref } from "../../ir/kernel/kernel.ts";
import { strideIn } from "../../ir/kernel/linear.ts";
import { store } from "../../ir/kernel/stmt.ts";
import { valueType } from "../../ir/kernel/value.ts";
import { opDef, opKind } from "../../ir/ops/all.ts";
import { lowestScore } from "../../ir/ops/attention.ts";
import { exprKey } from "./expr-key.ts";
import { flatten } from "./index-math.ts";
import type { KernelWriter, Together } from "./writer.ts";

/** Below every score; not an infinity, which devices may take as absent. */
export const lowest = num("f32", lowestScore);

/** Whether column j of a value is a load of memory j elements from that of column 0. */
export function liesInRows(w: KernelWriter, value: (t: Expr, j: Expr) => Expr): boolean {
  const [t, j] = [ref(w.unique("t")), ref(w.unique("j"))];
  let runs = false;
  const stmts = w.nested(() => {
    const element = value(t, j);
    runs = element.k === "load" && element.type.dtype === "f32" && strideIn(element.index, j.name) === 1;
  }, [t.name, j.name]);
  return runs && stmts.every((stmt) => stmt.k === "let" && strideIn(stmt.value, j.name) === 0);
}

/** The load of an element as a load of `lanes` from there. */
export function widened(element: Expr, lanes: number): Expr {
  return lanes === 1 ? element : { ...element, type: valueType(element.type.dtype, lanes) };
}

/** The keys, or the values, of one head of a sequence. */
export interface RowReader {
  /** Elements of a row. */
  readonly e: number;
  readonly row: (key: Expr) => Row;
  /** The row that the kernel computes itself: elements from `j` on. */
  readonly fresh?: (j: Expr) => Expr;
}

export interface Row {
  /** Elements from `j` on, as they lie in memory. */
  readonly at: (j: Expr) => Expr;
  /** Whether the row that the kernel computes itself is in its place. */
  readonly isNew?: Expr;
}

/** How many elements of rows of these nodes are read together: four where they lie so in memory, or one. */
export function lanesOf(w: KernelWriter, nodes: readonly Node[]): number {
  const inFours = (node: Node) =>
    node.type.shape[3]! % 4 === 0 && liesInRows(w, (key, j) => w.value(node, [int(0), key, int(0), j]));
  return nodes.every(inFours) ? 4 : 1;
}

/** Whether each row of `v` is the first elements of the row of `k`. */
export function sharesRows(w: KernelWriter, k: Node, v: Node): boolean {
  const [t, group] = [ref(w.unique("t")), ref(w.unique("group"))];
  let same = false;
  w.nested(() => {
    const [key, value] = [k, v].map((node) => w.value(node, [int(0), t, group, int(0)]));
    same = key!.k === "load" && exprKey(key!) === exprKey(value!);
  }, [t.name, group.name]);
  return same;
}

/** The rows [sequence, key, head] of a node. */
export function readerOf(
  w: KernelWriter,
  node: Node,
  [sequence, head]: readonly [Expr, Expr],
  lanes: number,
): RowReader {
  const element = (key: Expr, j: Expr) => w.value(node, [sequence, key, head, j]);
  const row = (key: Expr): Row => {
    if (lanes === 1) return { at: (j) => cast("f32", element(key, j)) };
    const first = element(key, int(0)) as Load; // as lanesOf found
    return { at: (j) => widened({ ...first, index: iadd(first.index, j) }, lanes) };
  };
  return { e: node.type.shape[3]!, row };
}

/**
 * Rows of caches that are updated by one row in this step, read as they were before: the kernel computes the new row
 * itself, so that who writes it may do so later.
 */
export class NewRows {
  readonly #w: KernelWriter;
  readonly #isNew = new Map<Expr, Expr>();
  #fresh = false;

  constructor(w: KernelWriter, updates: ReadonlySet<Node>) {
    this.#w = w;
    for (const update of updates) {
      const [old, rows, slots] = update.ins as [Node, Node, Node]; // a row update takes three operands
      w.hold(update, ([row, ...rest]) => {
        if (this.#fresh) return w.value(rows, [int(0), ...rest]);
        const at = w.bind("cache_row", row!);
        const found = load(w.buffer(old), flatten([at, ...rest], old.type.shape));
        this.#isNew.set(found, op("eq", at, w.value(slots, [int(0)])));
        return found;
      });
    }
  }

  /** A reader of fours of `node` that knows the new row, which all invocations bring to shared memory; a barrier must follow. */
  reader(node: Node, [sequence, head]: readonly [Expr, Expr], together: Together): RowReader {
    const w = this.#w;
    const e = node.type.shape[3]!;
    const own = w.shared("fresh", "f32", e);
    this.#fresh = true;
    w.strided(together, "j", e / 4, (four) => {
      const j = w.bind("j", imul(four, int(4)));
      const elements = [0, 1, 2, 3].map((lane) => w.value(node, [sequence, int(0), head, iadd(j, int(lane))]));
      w.emit(store(own, j, intrinsic("join4", ...elements)));
    });
    this.#fresh = false;
    const row = (key: Expr): Row => {
      const first = w.value(node, [sequence, key, head, int(0)]) as Load; // as lanesOf found
      const isNew = w.bind("is_new", this.#isNew.get(first)!);
      return { at: (j) => widened({ ...first, index: iadd(first.index, j) }, 4), isNew };
    };
    return { e, row, fresh: (j) => load(own, j, 4) };
  }
}

/** The update by one row that an operand of attention sees through views, and by which indices. */
export function updateBehind(w: KernelWriter, operand: Node): { update: Node; indices: readonly Node[] } | undefined {
  const indices: Node[] = [];
  let at = operand;
  while (!w.isBuffer(at) && opDef(at.op).view === true) {
    indices.push(...at.ins.slice(1));
    at = at.ins[0]!;
  }
  const isUpdate = opKind(at.op) === "update" && w.isBuffer(at);
  return isUpdate && at.ins[1]!.type.shape[0] === 1 ? { update: at, indices } : undefined;
}

/** Whether a kernel that computes these nodes reads one of `wanted`. */
export function readsAny(w: KernelWriter, nodes: readonly Node[], wanted: ReadonlySet<Node>): boolean {
  const seen = new Set<Node>();
  const reads = (node: Node): boolean => {
    if (wanted.has(node)) return true;
    if (w.isBuffer(node) || seen.has(node)) return false;
    seen.add(node);
    return node.ins.some(reads);
  };
  return nodes.some(reads);
}
