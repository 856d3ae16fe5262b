/** Reads kernel text (see `print.ts`) back into a Kernel. Any fault in the text is an IrError that names the line. */
import { didYouMean } from "../errors.ts";
import { isScalarOp, type ScalarOp, scalarOps } from "../scalar.ts";
import { isDType } from "../types.ts";
import { intrinsicType, isIntrinsic } from "./intrinsics.ts";
import type { Buf, Expr, Kernel, Stmt } from "./kernel.ts";
import * as make from "./kernel.ts";
import { intrinsic, loadBytes } from "./kernel.ts";
import { type Cursor, cursor } from "./lex.ts";
import { infixLevels, loopWords } from "./print.ts";
import { assign, barrier, bind, combine, loop, multiply, note, store, variable, when } from "./stmt.ts";
import {
  isIndex,
  isPackedValue,
  isValueDType,
  opTypeProblem,
  showValueType,
  type ValueType,
  type VDType,
  valueType,
} from "./value.ts";

/** Deepest nesting of expressions and of blocks. */
const maxDepth = 200;

interface Scope {
  readonly bufs: Map<string, Buf>;
  /** Types of the names bound so far; block scopes copy it. */
  readonly names: ReadonlyMap<string, ValueType>;
  readonly depth: number;
}

export function parseKernel(text: string, where = "kernel"): Kernel {
  const at = cursor(text, where);
  at.word("kernel");
  const name = at.name();
  const origin: string[] = [];
  if (at.accept("from")) {
    do origin.push(at.string());
    while (at.accept(","));
  }
  at.word("{");
  at.newLine();
  const bufs = new Map<string, Buf>();
  while (at.peek() !== "}" && isBufHead(at)) {
    const buf = parseBuf(at);
    if (bufs.has(buf.name)) at.fail(`buffer ${buf.name} is declared twice`);
    bufs.set(buf.name, buf);
  }
  const body = parseBlock(at, { bufs, names: new Map(), depth: 0 });
  at.word("}");
  at.newLine();
  at.end();
  return { name, origin, bufs: [...bufs.values()], body };
}

function isBufHead(at: Cursor): boolean {
  const own = at.peek() === "scratch" || at.peek() === "shared" ? 1 : 0;
  const word = at.peek(own);
  return (word === "read" || word === "write" || word === "readwrite") && /^\w+$/.test(at.peek(own + 1));
}

function parseBuf(at: Cursor): Buf {
  const space = at.accept("scratch") ? "scratch" : at.accept("shared") ? "shared" : "global";
  const access = at.accept("readwrite") ? "readwrite" : at.accept("write") ? "write" : "read";
  if (access === "read") at.word("read");
  const name = at.name();
  at.word(":");
  const dtype = at.name();
  if (dtype !== "f64" && !isDType(dtype)) return at.fail(`unknown storage type ${dtype}`);
  at.word("[");
  const size = at.integer();
  at.word("]");
  const shape = at.comment()?.match(/^\w+\[([\d,]*)\]$/)?.[1];
  at.newLine();
  const buf: Buf = { name, dtype, size, access, space };
  return shape === undefined ? buf : { ...buf, shape: shape === "" ? [] : shape.split(",").map(Number) };
}

/** Statements up to the closing brace. */
function parseBlock(at: Cursor, scope: Scope): Stmt[] {
  if (scope.depth > maxDepth) at.fail(`blocks nest deeper than ${maxDepth}`);
  const names = new Map(scope.names);
  const inner = { ...scope, names, depth: scope.depth + 1 };
  const stmts: Stmt[] = [];
  while (at.peek() !== "}") {
    const stmt = parseStmt(at, inner);
    if (stmt.k === "let" || stmt.k === "combine") names.set(stmt.name, stmt.value.type);
    if (stmt.k === "var") names.set(stmt.name, stmt.type);
    stmts.push(stmt);
    if (at.peek() !== "}") at.newLine();
    else at.endOfLine();
  }
  return stmts;
}

function parseStmt(at: Cursor, scope: Scope): Stmt {
  const how = make.loopKinds.find((kind) => loopWords[kind] === at.peek());
  if (how !== undefined) return parseLoop(at, scope, how);
  if (at.accept("let")) {
    const name = at.name();
    at.word("=");
    return bind(name, parseExpr(at, scope));
  }
  if (at.accept("var")) {
    const name = at.name();
    at.word(":");
    const type = parseType(at);
    at.word("=");
    return variable(name, parseExpr(at, scope), type);
  }
  if (at.accept("if")) {
    const cond = parseExpr(at, scope);
    const then = parseBraces(at, scope);
    return when(cond, then, at.accept("else") ? parseBraces(at, scope) : []);
  }
  if (at.accept("barrier")) return barrier;
  if (at.accept("combine")) return parseCombine(at, scope);
  if (at.accept("multiply")) return parseMultiply(at, scope);
  if (at.accept("note")) return note(at.string());
  const name = at.name();
  if (at.accept("=")) return assign(name, parseExpr(at, scope));
  const buf = findBuf(at, scope, name);
  const index = parseIndex(at, scope);
  at.word("=");
  return store(buf, index, parseExpr(at, scope));
}

function parseCombine(at: Cursor, scope: Scope): Stmt {
  const name = at.name();
  at.word("=");
  const word = at.name();
  if (word !== "add" && word !== "max") return at.fail(`expected add or max, got ${word}`);
  at.word("(");
  const value = parseExpr(at, scope);
  at.word(")");
  at.word("over");
  return combine(name, word, value, at.integer(), at.accept("apart") ? at.integer() : 1);
}

function parseMultiply(at: Cursor, scope: Scope): Stmt {
  const matrix = () => {
    const buf = findBuf(at, scope, at.name()).name;
    const index = parseIndex(at, scope);
    at.word("step");
    return { buf, index, stride: at.integer() };
  };
  const after = (mark: string) => {
    at.word(mark);
    return at.integer();
  };
  const sizes = () => {
    const found = { m: after("["), n: after(","), k: after(",") };
    at.word("]");
    return found;
  };
  const result = matrix();
  at.word("=");
  const left = matrix();
  at.word("*");
  const right = matrix();
  at.word("size");
  const whole = sizes();
  at.word("by");
  const unit = sizes();
  at.word("from");
  const from = at.number()?.value ?? at.fail("expected a number");
  at.word("over");
  return multiply({ result, left, right, size: whole, unit, from, over: at.integer() });
}

function parseBraces(at: Cursor, scope: Scope): Stmt[] {
  at.word("{");
  at.newLine();
  const body = parseBlock(at, scope);
  at.word("}");
  return body;
}

function parseLoop(at: Cursor, scope: Scope, how: make.LoopKind): Stmt {
  at.word(loopWords[how]);
  const name = at.name();
  at.word("in");
  const from = parseExpr(at, scope);
  at.word("..");
  const to = parseExpr(at, scope);
  const step = at.accept("step") ? at.integer() : 1;
  const names = new Map(scope.names).set(name, valueType("i32"));
  return loop(name, from, to, parseBraces(at, { ...scope, names }), how, step);
}

function parseExpr(at: Cursor, scope: Scope, level = 0): Expr {
  const row = infixLevels[level];
  if (row === undefined) return parsePrimary(at, scope);
  let left = parseExpr(at, scope, level + 1);
  for (;;) {
    const found = row.find(([symbol]) => at.accept(symbol));
    if (found === undefined) return left;
    left = parseOp(at, found[1], [left, parseExpr(at, scope, level + 1)]);
  }
}

function parsePrimary(at: Cursor, outer: Scope): Expr {
  const scope = { ...outer, depth: outer.depth + 1 };
  if (scope.depth > maxDepth) at.fail(`expressions nest deeper than ${maxDepth}`);
  if (at.accept("(")) {
    const inner = parseExpr(at, scope);
    at.word(")");
    return inner;
  }
  const literal = at.number();
  if (literal !== undefined) return parseNum(at, literal);
  if (at.accept("true")) return make.num("bool", 1);
  if (at.accept("false")) return make.num("bool", 0);
  const name = at.name();
  if (at.peek() === "(") return parseCall(at, scope, name);
  if (at.peek() === "[") {
    const buf = findBuf(at, scope, name);
    const index = parseIndex(at, scope);
    if (!at.accept(":")) return make.load(buf, index);
    return /^\d/.test(at.peek()) ? make.load(buf, index, at.integer()) : parseBytes(at, buf, index);
  }
  const type = scope.names.get(name);
  if (type === undefined) return at.fail(`unknown name ${name}`, didYouMean(name, scope.names.keys()));
  return make.ref(name, type);
}

/** The type after the colon of a load of bytes. */
function parseBytes(at: Cursor, buf: Buf, index: Expr): Expr {
  const type = parseType(at);
  if (!isPackedValue(type.dtype) || type.dtype !== buf.dtype) return at.fail(`${buf.name} does not hold ${type.dtype}`);
  return loadBytes(buf, index, type.lanes);
}

function parseNum(at: Cursor, literal: { value: number; whole: boolean }): Expr {
  const dtype: VDType = at.accept(":") ? parseType(at).dtype : literal.whole ? "i32" : "f32";
  const { value } = make.num(dtype, literal.value);
  if ((dtype === "i32" || dtype === "u32") && value !== literal.value) at.fail(`${literal.value} is no ${dtype}`);
  return make.num(dtype, value);
}

function parseCall(at: Cursor, scope: Scope, name: string): Expr {
  at.word("(");
  const args: Expr[] = [];
  if (!at.accept(")")) {
    do args.push(parseExpr(at, scope));
    while (at.accept(","));
    at.word(")");
  }
  if (isScalarOp(name)) return parseOp(at, name, args);
  if (isIntrinsic(name)) {
    const type = intrinsicType(
      name,
      args.map((arg) => arg.type),
    );
    return typeof type === "string" ? at.fail(type) : intrinsic(name, ...args);
  }
  const [value] = args;
  const [, word, digits] = /^(lane|splat)(\d{1,2})$/.exec(name) ?? [];
  if (value === undefined || args.length !== 1) {
    return at.fail(`unknown function ${name} of ${args.length} operands`, didYouMean(name, Object.keys(scalarOps)));
  }
  if (isValueDType(name)) return make.cast(name, value);
  if (name === "sum") return make.sum(value);
  if (word === "splat" && value.type.lanes === 1) return make.splat(value, Number(digits));
  if (word === "lane" && Number(digits) < value.type.lanes) return make.extract(value, Number(digits));
  return at.fail(`${name} does not take ${showValueType(value.type)}`, didYouMean(name, Object.keys(scalarOps)));
}

function parseOp(at: Cursor, name: ScalarOp, args: readonly Expr[]): Expr {
  const types = args.map((arg) => arg.type);
  const problem = opTypeProblem(name, types);
  if (problem !== undefined) at.fail(`${problem}, got ${types.map(showValueType).join(", ")}`);
  return make.op(name, ...args);
}

function findBuf(at: Cursor, scope: Scope, name: string): Buf {
  return scope.bufs.get(name) ?? at.fail(`unknown buffer ${name}`, didYouMean(name, scope.bufs.keys()));
}

function parseIndex(at: Cursor, scope: Scope): Expr {
  at.word("[");
  const index = parseExpr(at, scope);
  if (!isIndex(index.type)) at.fail(`expected an i32 index, got ${showValueType(index.type)}`);
  at.word("]");
  return index;
}

function parseType(at: Cursor): ValueType {
  const name = at.name();
  const [, dtype, lanes] = /^(f32|f64|i32|u32|bool|i8|u8|i16)(?:x(\d{1,2}))?$/.exec(name) ?? [];
  if (dtype === "i8" || dtype === "u8" || dtype === "i16") return valueType(dtype, Number(lanes ?? 1));
  if (dtype === undefined || !isValueDType(dtype)) return at.fail(`unknown value type ${name}`);
  return valueType(dtype, lanes === undefined ? 1 : Number(lanes));
}
