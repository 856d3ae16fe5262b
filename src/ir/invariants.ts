/**
 * What holds for every module (V1 to V9), and what holds from some pass on (the named invariants at the end). Each is
 * a check that throws a `Violation` naming the function and the node.
 */
import { checkAttrs } from "./attrs.ts";
import { IrError } from "./errors.ts";
import { attrsOf, type Func, isOp, type Module, type Node, topoOrder } from "./graph.ts";
import { isOpName, type OpName, opDef, opKind } from "./ops/all.ts";
import { byteSize, sameType, showType } from "./types.ts";

export interface Invariant {
  /** Its id and its name, shown in errors and listed in docs/ir.md. */
  readonly name: string;
  readonly check: (module: Module) => void;
}

/** A broken invariant; `verifyModule` adds its name and the function's text. */
export class Violation extends IrError {
  readonly func: Func | undefined;
  readonly node: Node | undefined;

  constructor(where: string, what: string, func?: Func, node?: Node) {
    super(where, what);
    this.func = func;
    this.node = node;
  }
}

/** An invariant of functions, each on its own. */
function perFunc(name: string, check: (func: Func, module: Module) => void): Invariant {
  return {
    name,
    check: (module) => {
      for (const func of module.funcs.values()) check(func, module);
    },
  };
}

const fail = (func: Func, what: string, node?: Node) => new Violation(`@${func.name}`, what, func, node);

/** All nodes of a function, parameters that nothing uses included. */
const nodesOf = (func: Func) => topoOrder([...func.params, ...func.outs]);

export const invariants: readonly Invariant[] = [
  perFunc("V1 order: operands are made before their users", (func) => {
    for (const node of nodesOf(func)) {
      const late = node.ins.find((operand) => !(operand.id < node.id));
      if (late !== undefined) throw fail(func, `an operand (${late.op}) is newer than its user ${node.op}`, node);
    }
  }),
  perFunc("V2 parameters: the parameters reached are the function's own, and their names differ", (func) => {
    const names = new Set<string>();
    for (const param of func.params) {
      const { name } = param.attrs;
      if (names.has(name)) throw fail(func, `two parameters are called ${JSON.stringify(name)}`, param);
      names.add(name);
    }
    const own = new Set<Node>(func.params);
    for (const node of nodesOf(func)) {
      if (isOp(node, "param") && !own.has(node)) {
        throw fail(func, `${JSON.stringify(node.attrs.name)} is not a parameter of this function`, node);
      }
    }
  }),
  perFunc("V3 types: ops, arities and attributes are declared, types are those the op's rule gives", (func) => {
    for (const node of nodesOf(func)) checkNode(func, node);
  }),
  perFunc("V4 calls: a function calls only functions before it", (func, module) => {
    const before = new Set<string>();
    for (const name of module.funcs.keys()) {
      if (name === func.name) break;
      before.add(name);
    }
    for (const node of callsOf(func)) {
      const { func: name } = node.attrs;
      if (!module.funcs.has(name)) throw fail(func, `there is no function @${name}`, node);
      if (!before.has(name)) throw fail(func, `@${name} does not come before @${func.name}`, node);
    }
  }),
  perFunc("V5 signatures: operands and results of a call have the types of the function called", (func, module) => {
    for (const node of callsOf(func)) {
      const target = module.funcs.get(node.attrs.func);
      if (target === undefined) continue;
      const show = (nodes: readonly Node[]) => `(${nodes.map((x) => showType(x.type)).join(", ")})`;
      const [expected, found] = [show(target.params), show(node.ins)];
      if (expected !== found) throw fail(func, `@${target.name} takes ${expected}, got ${found}`, node);
      const out = target.outs[node.attrs.result];
      if (out === undefined || !sameType(out.type, node.type)) {
        const what = `result ${node.attrs.result} of @${target.name} -> ${show(target.outs)}`;
        throw fail(func, `${what} is declared ${showType(node.type)}`, node);
      }
    }
  }),
  {
    name: "V6 entry: the entry is a function of the module, and functions are filed under their names",
    check: (module) => {
      const where = `module @${module.name}`;
      if (!module.funcs.has(module.entry)) throw new Violation(where, `there is no function @${module.entry}`);
      for (const [name, func] of module.funcs) {
        if (name !== func.name)
          throw new Violation(where, `@${func.name} is filed under ${JSON.stringify(name)}`, func);
      }
    },
  },
  {
    name: "V7 layers: a function whose weights' names have {layer} is called with a layer, and is not the entry",
    check: (module) => {
      for (const func of module.funcs.values()) {
        for (const node of callsOf(func)) {
          const { layer, func: name } = node.attrs;
          if (layer !== undefined && layer < 0) throw fail(func, `layer ${layer} is below 0`, node);
          const target = module.funcs.get(name);
          const weight = target && layerWeight(target);
          if (layer === undefined && weight !== undefined) {
            throw fail(func, `the call of @${name} has no layer for ${JSON.stringify(weight.attrs.name)}`, node);
          }
        }
      }
      const entry = module.funcs.get(module.entry);
      const weight = entry && layerWeight(entry);
      if (weight !== undefined) throw fail(entry!, "{layer} in a weight of the entry has no value", weight);
    },
  },
  perFunc("V8 weights: one node for each weight name; {0} needs an axis 0", (func) => {
    const seen = new Set<string>();
    for (const node of nodesOf(func)) {
      if (!isOp(node, "weight")) continue;
      const { name } = node.attrs;
      if (seen.has(name)) throw fail(func, `two nodes for weight ${JSON.stringify(name)}`, node);
      seen.add(name);
      if (name.includes("{0}") && node.type.shape.length === 0) throw fail(func, "{0} in the name of a scalar", node);
    }
  }),
  perFunc("V9 sizes: dimensions are whole numbers from 0, and no value exceeds 2^53 bytes", (func) => {
    for (const node of nodesOf(func)) {
      const whole = node.type.shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0);
      if (!whole || !Number.isSafeInteger(byteSize(node.type)))
        throw fail(func, `size of ${showType(node.type)}`, node);
    }
  }),
];

function checkNode(func: Func, node: Node): void {
  // Not every module comes from a Builder of this version.
  const op: string = node.op;
  if (!isOpName(op)) throw fail(func, `unknown op ${op}`, node);
  const def = opDef(op);
  let type: Node["type"];
  try {
    checkAttrs(op, def.attrs, attrsOf(node));
    if (def.arity !== "variadic" && def.arity !== node.ins.length) {
      throw new IrError(op, `expected ${def.arity} operands, got ${node.ins.length}`);
    }
    type = def.infer(
      node.ins.map((operand) => operand.type),
      attrsOf(node),
    );
  } catch (error) {
    if (!(error instanceof IrError)) throw error;
    throw fail(func, error.message.split("\n")[0]!, node);
  }
  if (!sameType(type, node.type)) {
    throw fail(func, `it has type ${showType(node.type)} but ${op} gives ${showType(type)}`, node);
  }
}

function callsOf(func: Func): Node<"call">[] {
  return nodesOf(func).filter((node) => isOp(node, "call"));
}

function layerWeight(func: Func): Node<"weight"> | undefined {
  return nodesOf(func)
    .filter((node) => isOp(node, "weight"))
    .find((node) => node.attrs.name.includes("{layer}"));
}

/** After expansion: no composite ops but those in `kept`. */
export function noComposites(kept: ReadonlySet<OpName> = new Set()): Invariant {
  return perFunc("noComposites: composite ops are expanded, but for those the target keeps", (func) => {
    for (const node of nodesOf(func)) {
      if (opKind(node.op) === "composite" && !kept.has(node.op)) throw fail(func, `${node.op} is not expanded`, node);
    }
  });
}

/**
 * Updates can happen in place, without copying: what a model's builder gives. Rewriting may lose it (`x * 1` becomes `x`,
 * so a reader moves past the update), which costs a copy and nothing else.
 */
export const inPlace: Invariant = perFunc(
  "inPlace: what updateRows replaces is not read after the update, nor returned, nor updated twice",
  (func) => {
    const order = nodesOf(func);
    for (const update of order) {
      if (opKind(update.op) !== "update") continue;
      const old = update.ins[0]!;
      if (func.outs.includes(old)) throw fail(func, "the operand it replaces is a result of the function", update);
      const readers = order.filter((node) => node !== update && node.ins.includes(old));
      const second = readers.find((node) => opKind(node.op) === "update" && node.ins[0] === old);
      if (second !== undefined) throw fail(func, "the operand it replaces is updated twice", second);
      // Ids grow from operands to users, so only newer readers can depend on the update.
      for (const reader of readers.filter((node) => node.id > update.id)) {
        if (topoOrder([reader]).includes(update)) throw fail(func, "it reads a value after its update", reader);
      }
    }
  },
);
