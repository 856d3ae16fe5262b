/**
 * Kernels as JavaScript source. One function per kernel over typed arrays, with the kernel's names, loops and shape; the
 * text is compiled with `new Function`. All numbers are doubles, so f64 sums cost nothing and f32 arithmetic is rounded by
 * `Math.fround` except where the value is already an f32 or the next thing that happens is a store to a Float32Array.
 */
import { InternalError, invariant, UnsupportedError } from "../../ir/errors.ts";
import type { Buf, Expr, Kernel, Stmt } from "../../ir/kernel/kernel.ts";
import { afterStmt, assume, type Facts, factsOf, insideLoop, rangeOf } from "../../ir/kernel/range.ts";
import type { StorageDType } from "../../ir/kernel/value.ts";
import { globalBufs, gridLoop, namesOf } from "../../ir/kernel/walk.ts";
import type { TensorData } from "../../ir/tensor.ts";
import { dtypeInfo } from "../../ir/types.ts";
import { emitExpr, type Names } from "./expr.ts";
import { helperSource, helpers, storeText } from "./storage.ts";

export interface JsKernel {
  readonly name: string;
  /** The function's text, comment and all. */
  readonly source: string;
  /** The values a launch's grid variable takes, where a launch can be divided: pass a part of them to `run`. */
  readonly grid: { readonly from: number; readonly to: number; readonly step: number } | undefined;
  /** Runs on storage of the global buffers in their order, for grid values from `begin` below `end` (default: all). */
  readonly run: (data: readonly TensorData[], begin?: number, end?: number) => void;
}

/** Compiles a kernel. Throws UnsupportedError for vectors and barriers, which plain JavaScript has not. */
export function compileKernel(kernel: Kernel): JsKernel {
  const source = emitKernel(kernel);
  const names = nameMap(kernel);
  // The text is ours, made from a kernel whose names are checked identifiers.
  const make = new Function("helpers", `"use strict";\n${prelude(kernel, names)}return (${source}\n);`) as (
    given: typeof helpers,
  ) => (...args: unknown[]) => void;
  const run = make(helpers);
  const grid = gridLoop(kernel);
  return {
    name: kernel.name,
    source,
    grid: grid && { from: grid.from, to: grid.to, step: grid.loop.step },
    run: (data, begin, end) => (begin === undefined ? run(...data) : run(...data, begin, end)),
  };
}

/** The text of the kernel's function. Its scratch arrays are made once, beside it. */
export function emitKernel(kernel: Kernel): string {
  const names = nameMap(kernel);
  const globals = globalBufs(kernel);
  const grid = gridLoop(kernel);
  const params = globals.map((buf) => `${names.get(buf.name)}, // ${showBuf(buf)}`);
  if (grid !== undefined) params.push(`${names.get("begin ")} = ${grid.from},`, `${names.get("end ")} = ${grid.to},`);
  const body = emitBlock({ kernel, names, grid: grid?.loop }, kernel.body, factsOf(kernel));
  return [
    ...(kernel.origin.length === 0
      ? []
      : ["/*", ...kernel.origin.map((text) => ` * ${text.replaceAll("*/", "* /").replaceAll("\n", " ")}`), " */"]),
    `function ${identifier(kernel.name)}(`,
    ...params.map((line) => `  ${line}`),
    ") {",
    ...body.map((line) => `  ${line}`),
    "}",
  ].join("\n");
}

function prelude(kernel: Kernel, names: Names): string {
  const scratch = kernel.bufs
    .filter((buf) => buf.space === "scratch")
    .map((buf) => `const ${names.get(buf.name)} = new ${arrayOf(buf.dtype)}(${lengthOf(buf)}); // ${showBuf(buf)}\n`);
  return `${helperSource}\n${scratch.join("")}`;
}

function showBuf(buf: Buf): string {
  return `${buf.dtype}[${(buf.shape ?? [buf.size]).join(",")}]`;
}

function lengthOf(buf: Buf): number {
  return buf.dtype !== "f64" && dtypeInfo(buf.dtype).bits === 4 ? Math.ceil(buf.size / 2) : buf.size;
}

function arrayOf(dtype: StorageDType): string {
  switch (dtype) {
    case "f64":
      return "Float64Array";
    case "f32":
      return "Float32Array";
    case "i32":
      return "Int32Array";
    case "u32":
      return "Uint32Array";
    case "f16":
    case "bf16":
      return "Uint16Array";
    case "i8":
      return "Int8Array";
    default:
      return "Uint8Array";
  }
}

interface Place {
  readonly kernel: Kernel;
  readonly names: Names;
  /** The loop that runs from `begin` to `end`. */
  readonly grid: Stmt | undefined;
}

function emitBlock(place: Place, stmts: readonly Stmt[], outer: Facts): string[] {
  const lines: string[] = [];
  let facts = outer;
  for (const stmt of stmts) {
    lines.push(...emitStmt(place, stmt, facts));
    facts = afterStmt(stmt, facts);
  }
  return lines;
}

function emitStmt(place: Place, stmt: Stmt, facts: Facts): string[] {
  const { names } = place;
  const text = (expr: Expr) => emitExpr(expr, facts, names).text;
  const name = (of: string) => names.get(of) ?? of;
  const block = (stmts: readonly Stmt[], inner: Facts) => emitBlock(place, stmts, inner).map((line) => `  ${line}`);
  switch (stmt.k) {
    case "let":
      return [`const ${name(stmt.name)} = ${text(stmt.value)};`];
    case "var":
      return [`let ${name(stmt.name)} = ${text(stmt.init)};`];
    case "set":
      return [emitSet(stmt.name, stmt.value, name(stmt.name), text)];
    case "store": {
      const buf = facts.bufs.get(stmt.buf);
      if (buf === undefined) throw new InternalError(`kernel ${place.kernel.name}`, `has no buffer ${stmt.buf}`);
      const value = emitExpr(
        stmt.value,
        facts,
        names,
        buf.dtype === "f32" || buf.dtype === "f64" ? buf.dtype : undefined,
      );
      return [`${storeText(buf, name(stmt.buf), text(stmt.index), value, rangeOf(stmt.value, facts))};`];
    }
    case "for": {
      const variable = name(stmt.name);
      const own = stmt === place.grid;
      const from = own ? names.get("begin ")! : text(stmt.from);
      // A bound that could change while the loop runs, or costs something, is kept.
      const kept = !own && stmt.to.k !== "num";
      const to = own ? names.get("end ")! : kept ? `${variable}End` : text(stmt.to);
      const start = kept ? `let ${variable} = ${from}, ${to} = ${text(stmt.to)}` : `let ${variable} = ${from}`;
      const step = stmt.step === 1 ? `${variable}++` : `${variable} += ${stmt.step}`;
      return [`for (${start}; ${variable} < ${to}; ${step}) {`, ...block(stmt.body, insideLoop(stmt, facts)), "}"];
    }
    case "if": {
      const then = [`if (${text(stmt.cond)}) {`, ...block(stmt.then, assume(stmt.cond, true, facts))];
      if (stmt.else.length === 0) return [...then, "}"];
      return [...then, "} else {", ...block(stmt.else, assume(stmt.cond, false, facts)), "}"];
    }
    case "barrier":
    case "combine":
    case "multiply":
      throw new UnsupportedError(`kernel ${place.kernel.name}`, "the JavaScript backend has no barriers");
    case "note":
      return [`// ${stmt.text.replaceAll(/[\n\r\u2028\u2029]/g, " ")}`];
  }
}

/** `s += x` for `s = s + x` in f64, where the sum is not rounded. */
function emitSet(name: string, value: Expr, shown: string, text: (expr: Expr) => string): string {
  if (value.k === "op" && value.op === "add" && value.type.dtype === "f64") {
    const [a, b] = value.args;
    if (a!.k === "ref" && a!.name === name) return `${shown} += ${text(b!)};`;
  }
  return `${shown} = ${text(value)};`;
}

const reserved = new Set(
  `arguments async await break case catch class const continue debugger default delete do else enum eval export extends
  false finally for function helpers if implements import in instanceof interface let new null of package private
  protected public return static super switch this throw true try typeof undefined var void while with yield NaN
  Infinity Math Object Float32Array Float64Array Int32Array Uint32Array Uint16Array Int8Array Uint8Array`.split(/\s+/),
);

/** JavaScript names for a kernel's names, distinct from each other, from reserved words and from the helpers. */
function nameMap(kernel: Kernel): Names {
  const used = new Set([...reserved, ...Object.keys(helpers)]);
  const map = new Map<string, string>();
  const take = (name: string, wanted: string) => {
    invariant(/^[A-Za-z_]\w*$/.test(wanted), () => `${JSON.stringify(name)} is no name`, `kernel ${kernel.name}`);
    let free = wanted;
    while (used.has(free) || used.has(`${free}End`)) free += "_";
    used.add(free).add(`${free}End`);
    map.set(name, free);
  };
  for (const name of namesOf(kernel)) take(name, name);
  // With a space, so that no kernel name is the same.
  take("begin ", "begin");
  take("end ", "end");
  return map;
}

function identifier(name: string): string {
  const plain = name.replaceAll(/\W/g, "_");
  return reserved.has(plain) || /^\d/.test(plain) || plain === "" ? `_${plain}` : plain;
}
