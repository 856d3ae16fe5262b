/**
 * Reads the text of the tensor IR. Every error is an IrError that names line and column and shows the line; every
 * node passes the Builder's checks. What concerns several functions (calls, entry) is the verifier's business.
 * Work and memory are linear in the text, which lex.ts bounds; nothing recurses.
 */
import type { Attrs, AttrValue } from "./attrs.ts";
import { CompilerError, didYouMean } from "./errors.ts";
import { Builder, type Func, type Module, makeModule, type Node, named } from "./graph.ts";
import { Source, type Token } from "./lex.ts";
import { type AttrsOf, isOpName, type OpName, opDef, ops } from "./ops/all.ts";
import { dtypes, isDType, sameType, showType, type TensorType, tensorType } from "./types.ts";

/** Parses what `printModule` prints. Nodes are made in `builder`. */
export function parseModule(text: string, builder: Builder = new Builder()): Module {
  const source = new Source(text);
  source.expect("word", "module");
  const name = source.expect("symbol").text;
  source.expect("word", "entry");
  const entry = source.expect("symbol").text;
  source.expect("punctuation", "{");
  source.endOfLine();
  const funcs = new Map<string, Func>();
  while (source.accept("punctuation", "}") === undefined) {
    const func = parseFuncAt(source, builder, funcs);
    funcs.set(func.name, func);
  }
  source.endOfLine();
  source.endOfText();
  return makeModule(name, [...funcs.values()], entry);
}

/** Parses what `printFunc` prints. */
export function parseFunc(text: string, builder: Builder = new Builder()): Func {
  const source = new Source(text);
  const func = parseFuncAt(source, builder, new Map());
  source.endOfText();
  return func;
}

/** Values by name within one function. */
type Scope = Map<string, Node>;

function parseFuncAt(source: Source, builder: Builder, earlier: ReadonlyMap<string, Func>): Func {
  source.expect("word", "func");
  const symbol = source.expect("symbol");
  if (earlier.has(symbol.text)) throw source.error(symbol, `@${symbol.text} is defined twice`);
  const scope: Scope = new Map();
  const params: Node<"param">[] = [];
  source.expect("punctuation", "(");
  if (source.accept("punctuation", ")") === undefined) {
    do params.push(parseParam(source, builder, scope));
    while (source.accept("punctuation", ",") !== undefined);
    source.expect("punctuation", ")");
  }
  source.expect("punctuation", "{");
  source.endOfLine();
  while (source.accept("word", "return") === undefined) parseNode(source, builder, scope);
  const outs = parseOperands(source, scope);
  source.endOfLine();
  source.expect("punctuation", "}");
  source.endOfLine();
  return { name: symbol.text, params, outs };
}

function parseParam(source: Source, builder: Builder, scope: Scope): Node<"param"> {
  const { at, type } = parseTypedName(source);
  const attrs = parseAttrs(source);
  const { dtype, shape } = type;
  // `make` checks that the name is a string and that there is nothing else.
  const node = check(source, at, () => builder.make("param", [], { name: at.text, ...attrs, dtype, shape }));
  define(source, scope, at, node);
  return node;
}

/** `%name: type, .. = op %operand, .. {attribute=value, ..}`; several results for a call alone. */
function parseNode(source: Source, builder: Builder, scope: Scope): void {
  const results = [parseTypedName(source)];
  while (source.accept("punctuation", ",") !== undefined) results.push(parseTypedName(source));
  source.expect("punctuation", "=");
  const at = source.expect("word");
  const op = at.text;
  if (!isOpName(op)) throw source.error(at, `unknown op ${op}`, didYouMean(op, Object.keys(ops)));
  if (results.length > 1 && op !== "call") throw source.error(at, `${op} has one result, got ${results.length}`);
  const func = op === "call" ? source.expect("symbol").text : undefined;
  const operands = parseOperands(source, scope);
  const attrs = parseAttrs(source);
  for (const [i, { at: name, type }] of results.entries()) {
    const all = func === undefined ? attrs : { ...attrs, func, result: Number(attrs.result ?? 0) + i };
    const node = check(source, at, () => builder.make(op, operands, complete(op, type, all)));
    if (!sameType(node.type, type)) {
      const what = `%${name.text} is declared ${showType(type)} but ${op} gives ${showType(node.type)}`;
      throw source.error(name, what);
    }
    define(source, scope, name, node);
  }
  source.endOfLine();
}

/** Attributes with `dtype` and `shape` from the declared type, where the op has them. `make` checks the rest. */
function complete<N extends OpName>(op: N, { dtype, shape }: TensorType, attrs: Attrs): AttrsOf<N> {
  const spec = opDef(op).attrs;
  const all: Record<string, AttrValue> = {};
  if (Object.hasOwn(spec, "dtype")) all.dtype = dtype;
  if (Object.hasOwn(spec, "shape")) all.shape = shape;
  return { ...all, ...attrs } as AttrsOf<N>;
}

function parseTypedName(source: Source): { at: Token; type: TensorType } {
  const at = source.expect("value");
  source.expect("punctuation", ":");
  const word = source.expect("word");
  const dtype = word.text;
  if (!isDType(dtype)) throw source.error(word, `unknown dtype ${dtype}`, didYouMean(dtype, Object.keys(dtypes)));
  source.expect("punctuation", "[");
  const shape: number[] = [];
  if (source.accept("punctuation", "]") === undefined) {
    do {
      const dim = source.expect("number");
      if (!/^\d+$/.test(dim.text) || !Number.isSafeInteger(Number(dim.text))) {
        throw source.error(dim, `expected a size, got ${dim.text}`);
      }
      shape.push(Number(dim.text));
    } while (source.accept("punctuation", ",") !== undefined);
    source.expect("punctuation", "]");
  }
  return { at, type: tensorType(dtype, shape) };
}

/** Values separated by commas, possibly none. */
function parseOperands(source: Source, scope: Scope): Node[] {
  const operands: Node[] = [];
  if (source.token().kind !== "value") return operands;
  do {
    const at = source.expect("value");
    const node = scope.get(at.text);
    if (node === undefined) {
      throw source.error(at, `%${at.text} is not defined above`, didYouMean(at.text, scope.keys()));
    }
    operands.push(node);
  } while (source.accept("punctuation", ",") !== undefined);
  return operands;
}

/** `{name=value, ..}`, or nothing. */
function parseAttrs(source: Source): Attrs {
  const entries = new Map<string, AttrValue>();
  if (source.accept("punctuation", "{") === undefined) return {};
  do {
    const name = source.expect("word");
    if (entries.has(name.text)) throw source.error(name, `attribute ${name.text} is given twice`);
    source.expect("punctuation", "=");
    entries.set(name.text, parseValue(source));
  } while (source.accept("punctuation", ",") !== undefined);
  source.expect("punctuation", "}");
  return Object.fromEntries(entries);
}

function parseValue(source: Source): AttrValue {
  const string = source.accept("string");
  if (string !== undefined) return string.text;
  if (source.accept("word", "true") !== undefined) return true;
  if (source.accept("word", "false") !== undefined) return false;
  if (source.accept("punctuation", "[") === undefined) return parseNumber(source);
  const items: number[] = [];
  if (source.accept("punctuation", "]") !== undefined) return items;
  do items.push(parseNumber(source));
  while (source.accept("punctuation", ",") !== undefined);
  source.expect("punctuation", "]");
  return items;
}

const numberWords: Readonly<Record<string, number>> = {
  inf: Number.POSITIVE_INFINITY,
  "-inf": Number.NEGATIVE_INFINITY,
  NaN: Number.NaN,
};

function parseNumber(source: Source): number {
  const at = source.accept("word", "NaN") ?? source.expect("number");
  const value = numberWords[at.text] ?? Number(at.text);
  if (Number.isNaN(value) && at.text !== "NaN") throw source.error(at, `expected a number, got ${at.text}`);
  return value;
}

function define(source: Source, scope: Scope, at: Token, node: Node): void {
  if (scope.has(at.text)) throw source.error(at, `%${at.text} is defined twice`);
  scope.set(at.text, node);
  // Numbers are the printer's own; every other name is kept.
  if (!/^\d+$/.test(at.text)) named(at.text, node);
}

/** Runs the Builder's checks; what they say is shown at `at`. */
function check<T>(source: Source, at: Token, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof CompilerError)) throw error;
    throw source.error(at, error.message.split("\n")[0]!, error.hint);
  }
}
