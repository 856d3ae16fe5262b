/**
 * Writes one kernel: open scopes, buffers, unique names, and `value`, which turns "element idx of node" into an
 * expression by inlining everything between the kernel's buffers. Reductions become loops at the outermost scope where
 * their row is fixed, and are written once per row.
 */
import { invariant } from "../../ir/errors.ts";
import { type Node, nameOf } from "../../ir/graph.ts";
import {
  type Buf,
  type CombineOp,
  type Expr,
  int,
  type Kernel,
  type LoopKind,
  load,
  type Ref,
  ref,
  type Stmt,
} from "../../ir/kernel/kernel.ts";
import { bind, combine, loop, variable } from "../../ir/kernel/stmt.ts";
import type { StorageDType } from "../../ir/kernel/value.ts";
import { opKind } from "../../ir/ops/all.ts";
import type { Target } from "../../ir/target.ts";
import { sizeOf } from "../../ir/types.ts";
import { exprKey, freeRefs } from "./expr-key.ts";
import { flatten } from "./index-math.ts";

interface Scope {
  readonly names: Set<string>;
  readonly stmts: Stmt[];
  readonly memo: Map<string, Expr>;
}

/** The iterations of a workgroup loop, as the code inside it sees them. */
export interface Together {
  readonly lane: Expr;
  readonly size: number;
  /** How far apart those are in the workgroup that share a row: 1 where all of it do. */
  readonly apart?: number;
}

/** How a node that has no buffer is computed: the table in values.ts. */
export type ComputeValue = (w: KernelWriter, node: Node, idx: readonly Expr[]) => Expr;

export class KernelWriter {
  readonly target: Target;
  readonly root: Node;
  readonly #isBuffer: (node: Node) => boolean;
  readonly #compute: ComputeValue;
  readonly #bufs = new Map<Node, Buf>();
  readonly #scratch: Buf[] = [];
  readonly #bound = new Map<Node, (idx: readonly Expr[]) => Expr>();
  readonly #used = new Set<string>();
  readonly #scopes: Scope[] = [newScope()];
  /** The workgroup loop that is open, and the level of its scope. */
  #workgroup: (Together & { readonly level: number }) | null = null;
  #together: Together | null = null;
  /** Those that share a row that is fixed inside of the workgroup loop. */
  #sharers: Together | null = null;
  readonly out: Buf;

  /** `isBuffer` says which nodes other than the root are read from memory. */
  constructor(root: Node, target: Target, isBuffer: (node: Node) => boolean, compute: ComputeValue) {
    this.target = target;
    this.root = root;
    this.#isBuffer = isBuffer;
    this.#compute = compute;
    const { dtype, shape } = root.type;
    const access = opKind(root.op) === "update" ? "readwrite" : "write";
    this.out = { name: this.unique(nameOf(root) ?? "out"), dtype, size: sizeOf(shape), shape, access, space: "global" };
  }

  /** A name not used before in this kernel, from `hint`. */
  unique(hint: string): string {
    const base = hint.replace(/\W/g, "_").replace(/^(?=\d)/, "_") || "x";
    let name = base;
    for (let i = 1; this.#used.has(name); i++) name = `${base}${i}`;
    this.#used.add(name);
    return name;
  }

  emit(stmt: Stmt): void {
    const scope = this.#scopes.at(-1)!;
    scope.stmts.push(stmt);
    if (stmt.k === "let" || stmt.k === "var" || stmt.k === "combine") scope.names.add(stmt.name);
  }

  /** Binds an expression to a name in the current scope, unless it is a name or a number already. */
  bind(hint: string, value: Expr): Expr {
    if (value.k === "ref" || value.k === "num") return value;
    const name = this.unique(hint);
    this.emit(bind(name, value));
    return ref(name, value.type);
  }

  /** A variable that starts with `init`. */
  variable(hint: string, init: Expr): Ref {
    const name = this.unique(hint);
    this.emit(variable(name, init));
    return ref(name, init.type) as Ref; // made by `ref`
  }

  /** A loop from 0 below `to` in steps; the body gets the loop variable. A loop of one iteration is not written. */
  loop(hint: string, to: Expr | number, body: (i: Expr) => void, how: LoopKind = "serial", step = 1): void {
    if (typeof to === "number" && to <= step) {
      if (to > 0) body(int(0));
      return;
    }
    const name = this.unique(hint);
    const inner = this.nested(() => body(ref(name)), [name]);
    this.emit(loop(name, 0, to, inner, how, step));
  }

  /** How a loop `depth` loops down runs whose iterations do not depend on each other: GPUs divide them all. */
  independent(depth: number): LoopKind {
    return depth === 0 || this.target.workgroup !== null ? "grid" : "serial";
  }

  /** A workgroup loop. What is reduced in `body` in rows that are fixed outside of it is reduced by all iterations together. */
  workgroup(size: number, body: (together: Together) => void): void {
    const name = this.unique("lane");
    const lane = ref(name);
    const inner = this.nested(() => {
      this.#workgroup = { lane, size, level: this.#scopes.length - 1 };
      body({ lane, size });
      this.#workgroup = null;
    }, [name]);
    this.emit(loop(name, 0, size, inner, "workgroup"));
  }

  /** What is reduced in `body` in rows that are fixed in the open workgroup loop is reduced by these of its iterations. */
  sharing(sharers: Together, body: () => void): void {
    this.#sharers = sharers;
    body();
    this.#sharers = null;
  }

  /** The iterations of the workgroup loop, for a reduction of a row that is the same to all of them. */
  get together(): Together | null {
    return this.#together;
  }

  /** A loop from 0 below `to` of which each iteration of the workgroup takes one in `size`. */
  strided({ lane, size }: Together, hint: string, to: Expr | number, body: (i: Expr) => void): void {
    const name = this.unique(hint);
    const inner = this.nested(() => body(ref(name)), [name]);
    this.emit(loop(name, lane, to, inner, "serial", size));
  }

  /** The sum or largest of what `over` in the workgroup have: neighbours, or those `apart` from each other. */
  combine(hint: string, by: CombineOp, value: Expr, over: number, apart = 1): Expr {
    const name = this.unique(hint);
    this.emit(combine(name, by, value, over, apart));
    return ref(name, value.type);
  }

  /** The statements that `body` writes, in a scope of their own in which `names` are defined. */
  nested(body: () => void, names: readonly string[] = []): Stmt[] {
    const scope = newScope(names);
    this.#scopes.push(scope);
    body();
    this.#scopes.pop();
    return scope.stmts;
  }

  scratch(hint: string, dtype: StorageDType, size: number): Buf {
    return this.#array(hint, dtype, size, "scratch");
  }

  /** Memory of the workgroup. */
  shared(hint: string, dtype: StorageDType, size: number): Buf {
    return this.#array(hint, dtype, size, "shared");
  }

  #array(hint: string, dtype: StorageDType, size: number, space: "scratch" | "shared"): Buf {
    const buf: Buf = { name: this.unique(hint), dtype, size, access: "readwrite", space };
    this.#scratch.push(buf);
    return buf;
  }

  /** Makes `value(node, idx)` answer `get(idx)`, for values that the kernel holds in registers or scratch. */
  hold(node: Node, get: (idx: readonly Expr[]) => Expr): void {
    this.#bound.set(node, get);
  }

  /** Whether reading the node is a load rather than a computation. */
  isBuffer(node: Node): boolean {
    return node !== this.root && this.#isBuffer(node);
  }

  /** The buffer of a node with one, as an argument of the kernel. */
  buffer(node: Node): Buf {
    const known = this.#bufs.get(node);
    if (known !== undefined) return known;
    invariant(this.isBuffer(node), () => `${node.op} has no buffer`);
    const { dtype, shape } = node.type;
    const name = this.unique(bufferName(node));
    const buf: Buf = { name, dtype, size: sizeOf(shape), shape, access: "read", space: "global" };
    this.#bufs.set(node, buf);
    return buf;
  }

  /** Element `idx` of `node`. */
  value(node: Node, idx: readonly Expr[]): Expr {
    const bound = this.#bound.get(node);
    if (bound !== undefined) return bound(idx);
    if (this.isBuffer(node)) return load(this.buffer(node), flatten(idx, node.type.shape));
    const key = `${node.id}:${idx.map(exprKey).join()}`;
    for (let i = this.#scopes.length - 1; i >= 0; i--) {
      const known = this.#scopes[i]!.memo.get(key);
      if (known !== undefined) return known;
    }
    const value = opKind(node.op) === "reduce" ? this.#reduction(node, idx, key) : this.#compute(this, node, idx);
    if (opKind(node.op) !== "reduce") this.#scopes.at(-1)!.memo.set(key, value);
    return value;
  }

  /** Written in the outermost scope in which the row is fixed, in a workgroup loop no further out than its body. */
  #reduction(node: Node, idx: readonly Expr[], key: string): Expr {
    const fixed = this.#levelOf(idx);
    const workgroup = this.#workgroup;
    const level = Math.max(fixed, workgroup?.level ?? 0);
    const before = this.#together;
    const sharers = workgroup !== null && fixed === workgroup.level ? this.#sharers : null;
    this.#together = workgroup !== null && fixed < workgroup.level ? workgroup : sharers;
    const value = this.#at(level, () => this.#compute(this, node, idx));
    this.#together = before;
    this.#scopes[level]!.memo.set(key, value);
    return value;
  }

  /** The kernel, with the buffers it came to use: the output first, then inputs in order of first use. */
  finish(origin: readonly string[]): { kernel: Kernel; args: readonly Node[] } {
    invariant(this.#scopes.length === 1, () => "an unclosed scope");
    const bufs = [this.out, ...this.#bufs.values(), ...this.#scratch];
    const name = `${nameOf(this.root) ?? this.root.op}`.replace(/\W/g, "_");
    return {
      kernel: { name, origin, bufs, body: this.#scopes[0]!.stmts },
      args: [this.root, ...this.#bufs.keys()],
    };
  }

  /** The innermost scope that defines something `idx` refers to. */
  #levelOf(idx: readonly Expr[]): number {
    const refs = new Set(idx.flatMap((e) => [...freeRefs(e)]));
    for (let i = this.#scopes.length - 1; i > 0; i--) {
      for (const name of this.#scopes[i]!.names) if (refs.has(name)) return i;
    }
    return 0;
  }

  /** Runs `body` with `level` as the innermost scope: what it emits lands before the loops opened since. */
  #at<T>(level: number, body: () => T): T {
    const closed = this.#scopes.splice(level + 1);
    const result = body();
    this.#scopes.push(...closed);
    return result;
  }
}

function newScope(names: readonly string[] = []): Scope {
  return { names: new Set(names), stmts: [], memo: new Map() };
}

/** The node's own name, or that of what it was made from. */
function bufferName(node: Node): string {
  for (let at: Node | undefined = node; at !== undefined; at = at.ins[0]) {
    const name = nameOf(at);
    if (name !== undefined) return name;
  }
  return node.op;
}
