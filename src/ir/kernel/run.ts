/**
 * Runs a kernel by walking it: slow, with a bounds check on every access. This is the definition of what a kernel
 * means; whatever a backend emits is compared with it.
 */
import { IrError } from "../errors.ts";
import { reader, type TensorData, tensorFrom, writer, zeros } from "../tensor.ts";
import { evalIntrinsic } from "./intrinsics.ts";
import type { Buf, Expr, For, Kernel, Stmt } from "./kernel.ts";
import { convert, evalValue } from "./value.ts";
import { globalBufs, gridLoop } from "./walk.ts";

/** A scalar, or the lanes of a vector. */
type Value = number | readonly number[];

/** Names bound in a block, and the blocks around it. */
interface Env {
  readonly values: Map<string, Value>;
  readonly outer: Env | undefined;
  /** Whether a workgroup loop is around. */
  readonly grouped: boolean;
}

interface Memory {
  readonly read: (i: number) => number;
  readonly write: (i: number, value: number) => void;
}

interface Machine {
  readonly kernel: Kernel;
  readonly memory: ReadonlyMap<string, Memory>;
  /** The iterations of the grid loop that this launch runs. */
  readonly range: { readonly loop: For; readonly begin: number; readonly end: number } | undefined;
}

/** A running statement list; it yields where it waits at a barrier. */
type Progress = Generator<void, void, void>;

/**
 * Runs `kernel` on storage for its global buffers, in their order. `range` restricts the grid loop (see `gridLoop`) to
 * values of its variable from `begin` below `end`. An access out of bounds, and a load of scratch never stored, throw.
 */
export function runKernel(
  kernel: Kernel,
  data: readonly TensorData[],
  range?: { readonly begin: number; readonly end: number },
): void {
  const globals = globalBufs(kernel);
  if (globals.length !== data.length) {
    throw new IrError(`kernel ${kernel.name}`, `expected ${globals.length} buffers, got ${data.length}`);
  }
  const memory = new Map<string, Memory>();
  for (const buf of kernel.bufs) {
    const access = buf.space === "scratch" ? scratch(buf) : global(buf, data[globals.indexOf(buf)]!);
    memory.set(buf.name, bounded(kernel, buf, access));
  }
  const grid = range === undefined ? undefined : gridLoop(kernel);
  if (range !== undefined && grid === undefined) {
    throw new IrError(`kernel ${kernel.name}`, "has no single outermost grid loop to run a range of");
  }
  const machine = { kernel, memory, range: grid && range && { loop: grid.loop, ...range } };
  for (const _ of runBlock(machine, kernel.body, { values: new Map(), outer: undefined, grouped: false })) {
    throw new IrError(`kernel ${kernel.name}`, "a barrier stands outside a workgroup loop");
  }
}

function global(buf: Buf, data: TensorData): Memory {
  if (buf.dtype === "f64") throw new IrError(`buffer ${buf.name}`, "f64 storage is for scratch only");
  const tensor = tensorFrom({ dtype: buf.dtype, shape: [buf.size] }, data);
  return { read: reader(tensor), write: writer(tensor) };
}

function scratch(buf: Buf): Memory {
  const stored = new Uint8Array(buf.size);
  const tensor = buf.dtype === "f64" ? undefined : zeros(buf.dtype, [buf.size]);
  const doubles = new Float64Array(tensor === undefined ? buf.size : 0);
  const read = tensor === undefined ? (i: number) => doubles[i]! : reader(tensor);
  const write =
    tensor === undefined
      ? (i: number, value: number) => {
          doubles[i] = value;
        }
      : writer(tensor);
  return {
    read: (i) => {
      if (stored[i] === 0) throw new IrError(`scratch ${buf.name}`, `element ${i} is loaded before it is stored`);
      return read(i);
    },
    write: (i, value) => {
      stored[i] = 1;
      write(i, value);
    },
  };
}

function bounded(kernel: Kernel, buf: Buf, memory: Memory): Memory {
  const check = (i: number, allowed: boolean, what: string) => {
    const where = `kernel ${kernel.name}`;
    if (!allowed) throw new IrError(where, `${what} ${buf.name}, which is ${buf.access}`);
    if (!Number.isInteger(i) || i < 0 || i >= buf.size) {
      throw new IrError(where, `${what} ${buf.name}[${i}], outside its ${buf.size} elements`);
    }
  };
  return {
    read: (i) => {
      check(i, buf.access !== "write" || buf.space === "scratch", "load of");
      return memory.read(i);
    },
    write: (i, value) => {
      check(i, buf.access !== "read", "store to");
      memory.write(i, value);
    },
  };
}

function* runBlock(machine: Machine, stmts: readonly Stmt[], outer: Env): Progress {
  const env: Env = { values: new Map(), outer, grouped: outer.grouped };
  for (const stmt of stmts) yield* runStmt(machine, stmt, env);
}

function* runStmt(machine: Machine, stmt: Stmt, env: Env): Progress {
  switch (stmt.k) {
    case "let":
      env.values.set(stmt.name, evaluate(machine, stmt.value, env));
      return;
    case "var":
      env.values.set(stmt.name, evaluate(machine, stmt.init, env));
      return;
    case "set":
      scopeOf(stmt.name, env).set(stmt.name, evaluate(machine, stmt.value, env));
      return;
    case "store": {
      const memory = memoryOf(machine, stmt.buf);
      const index = scalar(evaluate(machine, stmt.index, env));
      const value = evaluate(machine, stmt.value, env);
      lanesOf(value).forEach((lane, i) => {
        memory.write(index + i, lane);
      });
      return;
    }
    case "for":
      yield* runLoop(machine, stmt, env);
      return;
    case "if":
      yield* runBlock(machine, scalar(evaluate(machine, stmt.cond, env)) !== 0 ? stmt.then : stmt.else, env);
      return;
    case "barrier":
      yield;
      return;
    case "note":
      return;
  }
}

function* runLoop(machine: Machine, loop: For, env: Env): Progress {
  const own = machine.range?.loop === loop ? machine.range : undefined;
  const from = own?.begin ?? scalar(evaluate(machine, loop.from, env));
  const to = own?.end ?? scalar(evaluate(machine, loop.to, env));
  const grouped = env.grouped || loop.how === "workgroup";
  const iteration = (i: number) =>
    runBlock(machine, loop.body, { values: new Map([[loop.name, i]]), outer: env, grouped });
  if (loop.how !== "workgroup") {
    for (let i = from; i < to; i += loop.step) yield* iteration(i);
    return;
  }
  // Every iteration runs up to its next barrier before any of them goes on.
  let waiting: Progress[] = [];
  for (let i = from; i < to; i += loop.step) waiting.push(iteration(i));
  for (;;) {
    waiting = waiting.filter((progress) => progress.next().done !== true);
    if (waiting.length === 0) return;
    if (env.grouped) yield;
  }
}

function evaluate(machine: Machine, expr: Expr, env: Env): Value {
  switch (expr.k) {
    case "num":
      return expr.value;
    case "ref":
      return scopeOf(expr.name, env).get(expr.name)!;
    case "load": {
      const memory = memoryOf(machine, expr.buf);
      const index = scalar(evaluate(machine, expr.index, env));
      return each(expr.type.lanes, (lane) => memory.read(index + lane));
    }
    case "cast": {
      const lanes = lanesOf(evaluate(machine, expr.value, env));
      return each(expr.type.lanes, (lane) => convert(expr.type.dtype, lanes[lane]!));
    }
    case "splat": {
      const value = scalar(evaluate(machine, expr.value, env));
      return each(expr.type.lanes, () => value);
    }
    case "extract":
      return lanesOf(evaluate(machine, expr.value, env))[expr.lane]!;
    case "sum": {
      let lanes = lanesOf(evaluate(machine, expr.value, env));
      while (lanes.length > 1) {
        const half = lanes.length / 2;
        const whole = lanes;
        lanes = eachLane(half, (i) => evalValue("add", expr.type.dtype, [whole[i]!, whole[i + half]!]));
      }
      return lanes[0]!;
    }
    case "intrinsic":
      return evalIntrinsic(
        expr.name,
        expr.args.map((arg) => lanesOf(evaluate(machine, arg, env))),
      );
    case "op": {
      const [first] = expr.args;
      if (expr.op === "select" && first!.type.lanes === 1) {
        const chosen = scalar(evaluate(machine, first!, env)) !== 0 ? 1 : 2;
        return evaluate(machine, expr.args[chosen]!, env);
      }
      const { dtype } = expr.args.at(-1)!.type;
      const args = expr.args.map((arg) => lanesOf(evaluate(machine, arg, env)));
      return each(expr.type.lanes, (lane) =>
        evalValue(
          expr.op,
          dtype,
          args.map((lanes) => lanes[lane]!),
        ),
      );
    }
  }
}

function each(lanes: number, f: (lane: number) => number): Value {
  return lanes === 1 ? f(0) : eachLane(lanes, f);
}

function eachLane(lanes: number, f: (lane: number) => number): number[] {
  return Array.from({ length: lanes }, (_, lane) => f(lane));
}

function lanesOf(value: Value): readonly number[] {
  return typeof value === "number" ? [value] : value;
}

function scalar(value: Value): number {
  return typeof value === "number" ? value : value[0]!;
}

function scopeOf(name: string, env: Env): Map<string, Value> {
  for (let scope: Env | undefined = env; scope !== undefined; scope = scope.outer) {
    if (scope.values.has(name)) return scope.values;
  }
  throw new IrError("kernel", `name ${name} is not in scope`);
}

function memoryOf(machine: Machine, name: string): Memory {
  const memory = machine.memory.get(name);
  if (memory === undefined) throw new IrError(`kernel ${machine.kernel.name}`, `has no buffer ${name}`);
  return memory;
}
