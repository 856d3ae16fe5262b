/**
 * The text of the tensor IR, one node per line; `parse.ts` reads it back and docs/ir.md has the grammar. Attributes
 * called `dtype` and `shape` are those of the result in every op, so they are written only in the declared type.
 */
import { showAttrs } from "./attrs.ts";
import { attrsOf, type Func, isOp, type Module, type Node, nameOf, topoOrder } from "./graph.ts";
import { sameShape, showType } from "./types.ts";

export interface PrintOptions {
  /** Numbers every value but the parameters: equal modules print alike whatever their values are called. */
  readonly canonical?: boolean;
}

/** A line of a function's body and the nodes it defines: several for a call, none for `return`. */
export interface BodyLine {
  readonly nodes: readonly Node[];
  readonly text: string;
}

/** The module as text that `parseModule` reads. */
export function printModule(module: Module, options: PrintOptions = {}): string {
  const names = new Map<Node, string>();
  const funcs = [...module.funcs.values()].map((func) => join(funcLines(func, options, names)));
  return `module ${showSymbol(module.name)} entry ${showSymbol(module.entry)} {\n${funcs.join("\n\n")}\n}\n`;
}

/** The function as text that `parseFunc` reads. */
export function printFunc(func: Func, options: PrintOptions = {}): string {
  return join(funcLines(func, options));
}

function join({ header, body }: { header: string; body: readonly BodyLine[] }): string {
  return [header, ...body.map((line) => line.text), "}"].join("\n");
}

/** One node as a line, its operands by their own names or as `%?`. For messages; not parsable. */
export function printNode(node: Node): string {
  return printLine([node], (x) => {
    const name = nameOf(x);
    return `%${name === undefined ? "?" : identifier(name)}`;
  });
}

/**
 * The text of a function line by line. `earlier` collects the names given, for the next function of a module: a node of
 * both is called in the second as in the first.
 */
export function funcLines(
  func: Func,
  options: PrintOptions = {},
  earlier = new Map<Node, string>(),
): { header: string; body: BodyLine[] } {
  const params = new Set<Node>(func.params);
  const groups = groupCalls(topoOrder(func.outs).filter((node) => !params.has(node)));
  const names = nameValues(func, groups.flat(), options.canonical ? undefined : earlier);
  const name = (node: Node) => `%${names.get(node)}`;
  const header = func.params.map((param) => {
    const { name: text } = param.attrs;
    const attrs = names.get(param) === text ? "" : ` ${showAttrs({ name: text })}`;
    return `${name(param)}: ${showType(param.type)}${attrs}`;
  });
  const body = groups.map((nodes): BodyLine => ({ nodes, text: `  ${printLine(nodes, name)}` }));
  body.push({ nodes: [], text: `  return ${func.outs.map(name).join(", ")}`.trimEnd() });
  return { header: `func ${showSymbol(func.name)}(${header.join(", ")}) {`, body };
}

/** `@name`, quoted where it is not made of letters, digits, `_`, `.` and `-`. */
export function showSymbol(name: string): string {
  return /^[\w.-]+$/.test(name) ? `@${name}` : `@${JSON.stringify(name)}`;
}

/** One line for the nodes of a group: results of one call with consecutive numbers, or a single node. */
function printLine(nodes: readonly Node[], name: (node: Node) => string): string {
  const node = nodes[0]!;
  const results = nodes.map((result) => `${name(result)}: ${showType(result.type)}`).join(", ");
  const attrs = { ...attrsOf(node) };
  if (attrs.dtype === node.type.dtype) delete attrs.dtype;
  if (Array.isArray(attrs.shape) && sameShape(attrs.shape, node.type.shape)) delete attrs.shape;
  let op: string = node.op;
  if (isOp(node, "call")) {
    op += ` ${showSymbol(node.attrs.func)}`;
    delete attrs.func;
    if (attrs.result === 0) delete attrs.result;
  }
  const operands = node.ins.map(name).join(", ");
  return [`${results} = ${op}`, operands, showAttrs(attrs)].filter((part) => part !== "").join(" ");
}

/** Nodes in order, with results of one call whose numbers follow each other gathered where the first is needed. */
function groupCalls(order: readonly Node[]): Node[][] {
  const calls = new Map<string, Node<"call">[]>();
  const keyOf = ({ attrs, ins }: Node<"call">) => JSON.stringify([attrs.func, attrs.layer, ins.map((x) => x.id)]);
  for (const node of order) {
    if (!isOp(node, "call")) continue;
    const key = keyOf(node);
    const results = calls.get(key);
    if (results === undefined) calls.set(key, [node]);
    else results.push(node);
  }
  const runs = new Map<Node, Node[]>();
  for (const results of calls.values()) {
    let run: Node[] = [];
    let last = Number.NaN;
    for (const node of results.sort((a, b) => a.attrs.result - b.attrs.result)) {
      if (node.attrs.result !== last + 1) run = [];
      run.push(node);
      runs.set(node, run);
      last = node.attrs.result;
    }
  }
  const done = new Set<Node[]>();
  const groups: Node[][] = [];
  for (const node of order) {
    const run = runs.get(node) ?? [node];
    if (!done.has(run)) groups.push(run);
    done.add(run);
  }
  return groups;
}

/** A different name for each parameter and node; numbers for all nodes if there is no `earlier`. */
function nameValues(func: Func, nodes: readonly Node[], earlier: Map<Node, string> | undefined): Map<Node, string> {
  const taken = new Set<string>();
  const suffixes = new Map<string, number>();
  const unique = (wanted: string): string => {
    let name = wanted;
    while (taken.has(name)) {
      const suffix = (suffixes.get(wanted) ?? 0) + 1;
      suffixes.set(wanted, suffix);
      name = `${wanted}_${suffix}`;
    }
    taken.add(name);
    return name;
  };
  const names = new Map<Node, string>();
  for (const param of func.params) {
    const { name } = param.attrs;
    names.set(param, unique(/^[A-Za-z_][\w.]*$/.test(name) ? name : "p"));
  }
  let count = 0;
  for (const node of nodes) {
    // A number first: it is the only kind of name that no node is given.
    const given = earlier?.get(node) ?? (earlier && nameOf(node));
    const name = given === undefined ? String(count++) : unique(identifier(given));
    names.set(node, name);
    if (given !== undefined && !earlier?.has(node)) earlier?.set(node, name);
  }
  return names;
}

function identifier(name: string): string {
  const text = name.replace(/[^\w.]/g, "_");
  return /^[A-Za-z_]/.test(text) ? text : `_${text}`;
}
