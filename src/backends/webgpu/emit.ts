/** Kernels as WGSL: one shader per kernel with the kernel's names, loops and buffers, and the tensor ops it came from as its head. */
import { InternalError, invariant } from "../../ir/errors.ts";
import type { Expr, For, Kernel, Stmt } from "../../ir/kernel/kernel.ts";
import { afterStmt, assume, type Facts, factsOf, insideLoop } from "../../ir/kernel/range.ts";
import { isPackedValue } from "../../ir/kernel/value.ts";
import { globalBufs, meets, writesOf } from "../../ir/kernel/walk.ts";
import { wideBufs } from "./bytes.ts";
import { Combines, mostApart } from "./combine.ts";
import { bufferTexts } from "./declare.ts";
import { type Context, emitExpr, type Needs, nameOf, typeText } from "./expr.ts";
import { multiplyLines, unitDirectives } from "./multiply.ts";
import { wgslNames } from "./names.ts";
import { type Part, type Schedule, scheduleOf } from "./nest.ts";
import { binds, grouped } from "./scalar.ts";
import { isPacked } from "./storage.ts";
import { vectorBufs, vectorText } from "./vectors.ts";
import { loadsAny, type WordStores, wordStores, wordText } from "./word-stores.ts";

export interface EmitOptions {
  /** Buffers that are only read but share memory with one that is written: WebGPU wants one kind of access to a buffer. */
  readonly shared?: ReadonlySet<string>;
  /** Neighbours of a workgroup that make a subgroup; 0, the default, uses none. */
  readonly subgroup?: number;
  /** False puts products of bytes together from other operations. Default true. */
  readonly packedDot?: boolean;
  /** Whether products of matrices are made by the device's units. Default false: from products of bytes. */
  readonly matrixUnits?: boolean;
}

export interface WgslKernel {
  readonly source: string;
  /** Workgroups to dispatch, in two dimensions because one holds 65535. */
  readonly workgroups: readonly [number, number];
  /** What each global buffer is bound as. */
  readonly access: readonly ("read" | "read_write")[];
}

export const maxWorkgroups = 65535;

interface Place extends Context {
  readonly kernel: Kernel;
  readonly schedule: Schedule;
  readonly combines: Combines;
  /** Whether bounds are agreed upon; loops and branches around the statement that is emitted; whether matrix units are used. */
  readonly uses: { agreed: boolean; depth: number; units: boolean };
  readonly matrixUnits: boolean;
  readonly words: WordStores;
  /** Whether the kernel loads from a buffer that it stores to. */
  readonly reloads: boolean;
}

export function emitKernel(kernel: Kernel, options: EmitOptions = {}): WgslKernel {
  const { shared = new Set(), subgroup = 0, packedDot = true, matrixUnits = false } = options;
  const needs: Needs = { library: new Set(), loads: new Set(), stores: new Set(), words: new Set() };
  const schedule = scheduleOf(kernel);
  const written = writesOf(kernel.body).bufs;
  const wide = wideBufs(kernel, written);
  const words = wordStores(kernel);
  const vectors = vectorBufs(kernel, matrixUnits);
  const atomic = new Set([...written].filter((name) => !words.whole.has(name)));
  const place: Place = {
    kernel,
    schedule,
    wide,
    vectors,
    atomic,
    words,
    names: wgslNames(kernel),
    needs,
    combines: new Combines({ invocations: schedule.invocations, subgroup, apart: mostApart(kernel) }),
    uses: { agreed: false, depth: 0, units: false },
    matrixUnits,
    reloads: loadsAny(kernel, written),
  };
  const { invocations, workgroups } = schedule;
  const x = Math.min(workgroups, maxWorkgroups);
  const y = Math.ceil(workgroups / x);
  const body = emitParts(place, x * y);
  const params = ["group", "groups", "lane"].filter((name) =>
    body.some((line) => new RegExp(`\\b${name}\\b`).test(line)),
  );
  const head = `fn main(${params.map((name) => builtinParams[name]).join(", ")}) {`;
  const entry = [`@compute @workgroup_size(${invocations})`, head, ...indent(body), "}"];
  const changed = (name: string) => written.has(name) || shared.has(name);
  const access = globalBufs(kernel).map(({ name }) => (changed(name) ? "read_write" : "read"));
  const declared = bufferTexts(kernel, { names: place.names, needs, access, atomic, wide, vectors, packedDot });
  const enable = [place.combines.useSubgroups ? "enable subgroups;" : "", place.uses.units ? unitDirectives : ""];
  const blocks = [headOf(kernel), ...enable, ...declared, ...sharedTexts(place), entry.join("\n")];
  return { source: `${blocks.filter((text) => text !== "").join("\n\n")}\n`, workgroups: [x, y], access };
}

const builtinParams: Record<string, string> = {
  group: "@builtin(workgroup_id) group: vec3u",
  groups: "@builtin(num_workgroups) groups: vec3u",
  lane: "@builtin(local_invocation_index) lane: u32",
};

function headOf({ name, origin }: Kernel): string {
  return [`// ${name}`, ...origin.map((text) => `//   ${text}`)]
    .map((line) => line.replaceAll(/[\n\r\u2028\u2029]/g, " "))
    .join("\n");
}

function indent(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`);
}

/** `launched`: workgroups in all, with those that only fill up the second dimension. */
function emitParts(place: Place, launched: number): string[] {
  const { parts, invocations } = place.schedule;
  const grids = parts.filter((part) => part.kind === "grid");
  const only = grids.length === 1;
  const lines: string[] = [];
  if (launched > maxWorkgroups) lines.push("let group_index = i32(group.y * groups.x + group.x);");
  else lines.push("let group_index = i32(group.x);");
  lines.push(invocations === 1 ? "let id = group_index;" : `let id = group_index * ${invocations} + i32(lane);`);
  let facts = factsOf(place.kernel);
  for (const part of parts) {
    if (part.kind === "all") {
      lines.push(...emitStmt(place, part.stmt, facts));
      facts = afterStmt(part.stmt, facts);
      continue;
    }
    if (part.count === 0) continue;
    const each = part.workgroup > 0 ? 1 : invocations;
    const [name, all, first] = [each === 1 ? "group_index" : "id", launched * each, part.first * each];
    const index = first === 0 ? name : `(${name} - ${first})`;
    const body = emitGrid(place, part, index, facts);
    if (first > 0) lines.push(`if (${name} >= ${first} && ${name} < ${first + part.count}) {`, ...indent(body), "}");
    else if (all === part.count) lines.push(...(only ? body : ["{", ...indent(body), "}"]));
    else if (only && part === parts.at(-1)) lines.push(`if (${name} >= ${part.count}) { return; }`, ...body);
    else lines.push(`if (${name} < ${part.count}) {`, ...indent(body), "}");
  }
  return dropUnused(lines, ["id", "group_index"]);
}

/** Without the lets of these names that no later line mentions. */
function dropUnused(lines: readonly string[], names: readonly string[]): string[] {
  let kept = [...lines];
  for (const name of names) {
    const at = kept.findIndex((line) => line.startsWith(`let ${name} = `));
    const used = kept.some((line, i) => i !== at && new RegExp(`\\b${name}\\b`).test(line));
    if (!used) kept = kept.toSpliced(at, 1);
  }
  return kept;
}

function emitGrid(place: Place, part: Extract<Part, { kind: "grid" }>, index: string, outer: Facts): string[] {
  const lines: string[] = [];
  let facts = outer;
  let inner = part.count;
  for (const [i, { loop, from, count, lets }] of part.axes.entries()) {
    inner /= count;
    const quotient = inner === 1 ? index : `${index} / ${inner}`;
    const at = i === 0 ? quotient : inner === 1 ? `${index} % ${count}` : `(${quotient}) % ${count}`;
    const scaled = loop.step === 1 ? at : `${at.includes(" ") ? `(${at})` : at} * ${loop.step}`;
    lines.push(`let ${nameOf(place, loop.name)} = ${from === 0 ? scaled : `${from} + ${scaled}`};`);
    facts = insideLoop(loop, facts);
    for (const stmt of lets) {
      lines.push(...emitStmt(place, stmt, facts));
      facts = afterStmt(stmt, facts);
    }
  }
  return [...lines, ...emitBlock(place, part.body, facts)];
}

/** The body of a loop or branch. */
function deeper(place: Place, stmts: readonly Stmt[], facts: Facts): string[] {
  place.uses.depth++;
  const lines = indent(emitBlock(place, stmts, facts));
  place.uses.depth--;
  return lines;
}

function emitBlock(place: Place, stmts: readonly Stmt[], outer: Facts): string[] {
  const lines: string[] = [];
  let facts = outer;
  for (let i = 0; i < stmts.length; i++) {
    const stmt = stmts[i]!;
    const run = place.words.runs.get(stmt);
    lines.push(...(run === undefined ? emitStmt(place, stmt, facts) : [wordText(run, facts, place)]));
    facts = afterStmt(stmt, facts);
    if (run !== undefined) i += run.length - 1;
  }
  return lines;
}

function emitStmt(place: Place, stmt: Stmt, facts: Facts): string[] {
  const text = (expr: Expr) => emitExpr(expr, facts, place).text;
  const block = (stmts: readonly Stmt[], inner: Facts) => deeper(place, stmts, inner);
  switch (stmt.k) {
    case "let":
      return [`let ${nameOf(place, stmt.name)} = ${text(stmt.value)};`];
    case "var":
      return [`var ${nameOf(place, stmt.name)}: ${typeText(stmt.type)} = ${text(stmt.init)};`];
    case "set":
      return [emitSet(stmt.name, stmt.value, nameOf(place, stmt.name), text)];
    case "store":
      return emitStore(place, stmt, facts);
    case "for":
      return stmt.how === "workgroup" ? emitLanes(place, stmt, facts) : emitLoop(place, stmt, facts);
    case "if": {
      const then = [`if (${text(stmt.cond)}) {`, ...block(stmt.then, assume(stmt.cond, true, facts))];
      if (stmt.else.length === 0) return [...then, "}"];
      return [...then, "} else {", ...block(stmt.else, assume(stmt.cond, false, facts)), "}"];
    }
    case "barrier":
      // What the workgroup stored to buffers and loads again becomes visible by a barrier of its own.
      return place.reloads ? ["storageBarrier();", "workgroupBarrier();"] : ["workgroupBarrier();"];
    case "combine":
      return [
        `let ${nameOf(place, stmt.name)} = ${place.combines.call(stmt, text(stmt.value), place.uses.depth > 0)};`,
      ];
    case "multiply":
      if (place.matrixUnits) place.uses.units = true;
      return multiplyLines(stmt, facts, place, place.matrixUnits);
    case "note":
      return [`// ${stmt.text.replaceAll(/[\n\r\u2028\u2029]/g, " ")}`];
  }
}

/** `s += x` for `s = s + x`. */
function emitSet(name: string, value: Expr, shown: string, text: (expr: Expr) => string): string {
  if (value.k === "op" && value.op === "add") {
    const [a, b] = value.args;
    if (a!.k === "ref" && a!.name === name) return `${shown} += ${text(b!)};`;
  }
  return `${shown} = ${text(value)};`;
}

function emitStore(place: Place, stmt: Extract<Stmt, { k: "store" }>, facts: Facts): string[] {
  const buf = facts.bufs.get(stmt.buf);
  if (buf === undefined) throw new InternalError(`kernel ${place.kernel.name}`, `has no buffer ${stmt.buf}`);
  const name = nameOf(place, stmt.buf);
  const [index, value] = [emitExpr(stmt.index, facts, place), emitExpr(stmt.value, facts, place)];
  const vector = place.vectors.get(stmt.buf);
  if (vector !== undefined) return [`${vectorText(name, index, vector, stmt.value.type.lanes)} = ${value.text};`];
  invariant(
    !isPackedValue(stmt.value.type.dtype),
    () => `bytes are stored to ${stmt.buf}, which has no vectors of them`,
  );
  const packed = isPacked(buf.dtype) && buf.space === "global";
  if (packed) place.needs.stores.add(stmt.buf);
  const store = (at: string, x: string) => (packed ? `store_${name}(${at}, ${x});` : `${name}[${at}] = ${x};`);
  if (stmt.value.type.lanes === 1) return [store(index.text, value.text)];
  return Array.from({ length: stmt.value.type.lanes }, (_, i) =>
    store(`${grouped(index, binds.sum)} + ${i}`, `${grouped(value, binds.atom)}.${"xyzw"[i]}`),
  );
}

/** Every invocation of the workgroup is one iteration. */
function emitLanes(place: Place, loop: For, facts: Facts): string[] {
  const size = loop.to.k === "num" ? loop.to.value : 0;
  const { invocations } = place.schedule;
  invariant(size === invocations, () => `a workgroup loop of ${size} in workgroups of ${invocations}`);
  const name = nameOf(place, loop.name);
  const body = emitBlock(place, loop.body, insideLoop(loop, facts));
  return [`let ${name} = i32(lane);`, ...body];
}

function emitLoop(place: Place, loop: For, facts: Facts): string[] {
  const name = nameOf(place, loop.name);
  const text = (expr: Expr) => emitExpr(expr, facts, place).text;
  const lines: string[] = [];
  let [from, to] = [text(loop.from), text(loop.to)];
  if (loop.to.k !== "num") {
    // Invocations that meet in the loop must be seen to agree on its bounds.
    if (meets(loop.body)) {
      place.uses.agreed = true;
      to = `agreed(lane, ${to})`;
      if (loop.from.k !== "num") from = `agreed(lane, ${from})`;
    }
    lines.push(`let ${name}_end = ${to};`);
    to = `${name}_end`;
  }
  const step = loop.step === 1 ? `${name}++` : `${name} += ${loop.step}`;
  const body = deeper(place, loop.body, insideLoop(loop, facts));
  const loopLines = [`for (var ${name} = ${from}; ${name} < ${to}; ${step}) {`, ...body, "}"];
  return lines.length === 0 ? loopLines : [...lines, ...loopLines];
}

/** Memory and functions of the workgroup that combines and agreed bounds need. */
function sharedTexts({ combines, uses }: Place): string[] {
  const texts = combines.texts();
  if (uses.agreed) {
    texts.push(`var<workgroup> agreed_i32: i32;
fn agreed(lane: u32, value: i32) -> i32 {
  if (lane == 0u) { agreed_i32 = value; }
  return workgroupUniformLoad(&agreed_i32);
}`);
  }
  return texts;
}
