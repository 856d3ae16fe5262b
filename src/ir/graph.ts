/**
 * The tensor graph: immutable nodes, functions and modules, and the Builder through which every node is made: checked
 * against its op's type rule and interned, so that equal nodes of one Builder are the same object.
 */
import { type Attrs, checkAttrs, showAttrs } from "./attrs.ts";
import { IrError } from "./errors.ts";
import { type AttrsOf, type OpName, opDef } from "./ops/all.ts";
import { byteSize, type DType, type Shape, showType, type TensorType } from "./types.ts";

export interface Node<N extends OpName = OpName> {
  /** Unique in the process, so that nodes of two Builders never share an id. Operands have smaller ids. */
  readonly id: number;
  readonly op: N;
  readonly ins: readonly Node[];
  readonly attrs: AttrsOf<N>;
  readonly type: TensorType;
}

export interface Func {
  readonly name: string;
  readonly params: readonly Node<"param">[];
  readonly outs: readonly Node[];
}

export interface Module {
  readonly name: string;
  /** In order of definition: a function calls only functions before it. */
  readonly funcs: ReadonlyMap<string, Func>;
  readonly entry: string;
}

let nextId = 0;
const names = new WeakMap<Node, string>();

/** Gives a node a name for printing, if it has none yet, and returns it. Names do not affect identity. */
export function named<N extends OpName>(name: string, node: Node<N>): Node<N> {
  if (!names.has(node)) names.set(node, name);
  return node;
}

/** The name a node was given, or that of its attribute `name`. */
export function nameOf(node: Node): string | undefined {
  const given = names.get(node);
  if (given !== undefined) return given;
  const attrs: Attrs = node.attrs;
  return node.op === "param" ? String(attrs.name) : undefined;
}

/** Narrows a node to one op. For rules and lowerings that own the op; shared code asks `opKind`. */
export function isOp<N extends OpName>(node: Node, op: N): node is Node<N> {
  return (node.op as OpName) === op;
}

/** Attributes of a node whose op is not known statically. */
export function attrsOf(node: Node): Attrs {
  return node.attrs;
}

export class Builder {
  readonly #interned = new Map<string, Node>();

  /** The node `op(ins) {attrs}`: type-checked, and the same object for the same arguments. */
  make<N extends OpName>(op: N, ins: readonly Node[], attrs: AttrsOf<N>): Node<N> {
    const shown = showAttrs(attrs);
    const key = `${op}(${ins.map((node) => node.id).join()})${shown}`;
    const known = this.#interned.get(key);
    // The key starts with the op, so a hit is a node of that op.
    if (known !== undefined) return known as Node<N>;
    const def = opDef(op);
    checkAttrs(op, def.attrs, attrs);
    if (def.arity === "variadic" ? ins.length === 0 && op !== "call" : ins.length !== def.arity) {
      throw new IrError(op, `expected ${def.arity} operands, got ${ins.length}`);
    }
    const type = def.infer(
      ins.map((node) => node.type),
      attrs,
    );
    if (type.shape.some((dim) => dim < 0) || !Number.isSafeInteger(byteSize(type))) {
      throw new IrError(op, `the result's size is not a whole number below 2^53: ${showType(type)}`);
    }
    const node: Node<N> = { id: nextId++, op, ins: Object.freeze([...ins]), attrs: frozen(attrs), type };
    Object.freeze(node);
    this.#interned.set(key, node);
    return node;
  }

  param(name: string, dtype: DType, shape: Shape): Node<"param"> {
    return this.make("param", [], { name, dtype, shape });
  }

  weight(name: string, dtype: DType, shape: Shape): Node<"weight"> {
    return named(weightValueName(name), this.make("weight", [], { name, dtype, shape }));
  }

  /** Like `node` with other operands: the same object where nothing differs. */
  withIns(node: Node, ins: readonly Node[]): Node {
    if (ins.every((x, i) => x === node.ins[i])) return node;
    const copy = this.make(node.op, ins, node.attrs);
    const name = names.get(node);
    return name === undefined ? copy : named(name, copy);
  }

  /** The results of calling `func` on `args`; `layer` binds `{layer}` in its weights' names. */
  call(func: Func, args: readonly Node[], layer?: number): Node<"call">[] {
    const expected = func.params.map((param) => showType(param.type)).join(", ");
    const found = args.map((arg) => showType(arg.type)).join(", ");
    if (expected !== found) throw new IrError(`call @${func.name}`, `expected (${expected}), got (${found})`);
    return func.outs.map(({ type: { dtype, shape } }, result) =>
      this.make("call", args, { func: func.name, result, dtype, shape, ...(layer === undefined ? {} : { layer }) }),
    );
  }
}

/** A copy that nobody can change: the attributes are part of the interning key. */
function frozen<A extends object>(attrs: A): A {
  const entries = Object.entries(attrs).map(([name, value]) => [name, Array.isArray(value) ? [...value] : value]);
  for (const [, value] of entries) Object.freeze(value);
  // Same names and values as `attrs`.
  return Object.freeze(Object.fromEntries(entries)) as A;
}

/** "model.layers.{layer}.mlp.gate.weight" is printed as w_mlp_gate. */
function weightValueName(name: string): string {
  const parts = name.split(".").filter((part) => !/^(model|layers|weight|\{.*\}|\d+)$/.test(part));
  return `w_${parts.slice(-2).join("_").replace(/\W/g, "_")}`;
}

export function makeModule(name: string, funcs: readonly Func[], entry: string): Module {
  return { name, funcs: new Map(funcs.map((func) => [func.name, func])), entry };
}

export function getFunc(module: Module, name: string): Func {
  const func = module.funcs.get(name);
  if (func === undefined) throw new IrError(`module @${module.name}`, `there is no function @${name}`);
  return func;
}

/** The module with each function replaced by `change(func)`; the same object if none changed. */
export function mapFuncs(module: Module, change: (func: Func) => Func): Module {
  let changed = false;
  const funcs = new Map<string, Func>();
  for (const [name, func] of module.funcs) {
    const next = change(func);
    changed ||= next !== func;
    funcs.set(name, next);
  }
  return changed ? { ...module, funcs } : module;
}

/** All nodes that `roots` depend on, operands before users; iterative, because graphs are deeper than the stack. */
export function topoOrder(roots: readonly Node[]): Node[] {
  const order: Node[] = [];
  const seen = new Set<Node>();
  const stack: { node: Node; next: number }[] = [];
  const visit = (node: Node) => {
    if (seen.has(node)) return;
    seen.add(node);
    stack.push({ node, next: 0 });
  };
  for (const root of roots) {
    visit(root);
    while (stack.length > 0) {
      const top = stack.at(-1)!;
      const operand = top.node.ins[top.next++];
      if (operand !== undefined) visit(operand);
      else order.push(stack.pop()!.node);
    }
  }
  return order;
}

/** The nodes that use each node, once per use. */
export function usersOf(order: readonly Node[]): Map<Node, Node[]> {
  const users = new Map<Node, Node[]>(order.map((node) => [node, []]));
  for (const node of order) for (const operand of node.ins) users.get(operand)?.push(node);
  return users;
}

/**
 * Rebuilds what `roots` depend on, operands first: `change(node, rebuilt)` gets each node with its operands already
 * replaced and returns its replacement. Returns the new roots and the whole mapping.
 */
export function rebuild(
  roots: readonly Node[],
  builder: Builder,
  change: (node: Node, original: Node) => Node,
): { roots: Node[]; mapping: Map<Node, Node> } {
  const mapping = new Map<Node, Node>();
  for (const node of topoOrder(roots)) {
    const renewed = builder.withIns(
      node,
      node.ins.map((operand) => mapping.get(operand)!),
    );
    mapping.set(node, change(renewed, node));
  }
  return { roots: roots.map((root) => mapping.get(root)!), mapping };
}
