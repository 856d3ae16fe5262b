/**
 * Runs a kernel by walking it: slow, with a bounds check on every access. This is the definition of what a kernel
 * means; whatever a backend emits is compared with it.
 */
import { IrError } from "../errors.ts";
import type { TensorData } from "../tensor.ts";
import { evalIntrinsic } from "./intrinsics.ts";
import type { Expr, For, Kernel, Stmt } from "./kernel.ts";
import { matricesOf } from "./multiply.ts";
import { type Group, type Memory, memoryOf } from "./run-memory.ts";
import { multiplyTogether } from "./run-multiply.ts";
import { convert, evalValue } from "./value.ts";
import { globalBufs, gridLoop } from "./walk.ts";

/** A scalar, or the lanes of a vector. */
type Value = number | readonly number[];

/** Names bound in a block, and the blocks around it. */
interface Env {
  readonly values: Map<string, Value>;
  readonly outer: Env | undefined;
}

interface Machine {
  readonly kernel: Kernel;
  readonly memory: ReadonlyMap<string, Memory>;
  /** The iterations of the grid loop that this launch runs. */
  readonly range: { readonly loop: For; readonly begin: number; readonly end: number } | undefined;
  readonly group: Group;
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
  const group: Group = { lane: 0, epoch: 0, run: 0, gathered: new Map(), multiplied: { epoch: 0, asked: new Map() } };
  const memory = new Map(
    kernel.bufs.map((buf) => [buf.name, memoryOf(kernel, buf, group, data[globals.indexOf(buf)])] as const),
  );
  const grid = range === undefined ? undefined : gridLoop(kernel);
  if (range !== undefined && grid === undefined) {
    throw new IrError(`kernel ${kernel.name}`, "has no single outermost grid loop to run a range of");
  }
  const machine = { kernel, memory, range: grid && range && { loop: grid.loop, ...range }, group };
  for (const _ of runBlock(machine, kernel.body, { values: new Map(), outer: undefined })) {
    throw new IrError(`kernel ${kernel.name}`, "a barrier stands outside a workgroup loop");
  }
}

function* runBlock(machine: Machine, stmts: readonly Stmt[], outer: Env): Progress {
  const env: Env = { values: new Map(), outer };
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
      const memory = findMemory(machine, stmt.buf);
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
    case "combine": {
      const { gathered, lane } = machine.group;
      gathered.set(lane, evaluate(machine, stmt.value, env));
      yield;
      const { over, apart } = stmt;
      const first = lane - (lane % (over * apart)) + (lane % apart);
      const values = Array.from({ length: over }, (_, i) => gathered.get(first + i * apart)!);
      env.values.set(
        stmt.name,
        values.reduce((a, b) =>
          each(stmt.value.type.lanes, (i) =>
            evalValue(stmt.op, stmt.value.type.dtype, [lanesOf(a)[i]!, lanesOf(b)[i]!]),
          ),
        ),
      );
      yield; // before any gives its next value
      return;
    }
    case "multiply": {
      const indices = matricesOf(stmt).map(({ at }) => scalar(evaluate(machine, at.index, env)));
      multiplyTogether(stmt, indices, machine.group, (name) => findMemory(machine, name));
      return;
    }
    case "note":
      return;
  }
}

function* runLoop(machine: Machine, loop: For, env: Env): Progress {
  const own = machine.range?.loop === loop ? machine.range : undefined;
  const from = own?.begin ?? scalar(evaluate(machine, loop.from, env));
  const to = own?.end ?? scalar(evaluate(machine, loop.to, env));
  const iteration = (i: number) => runBlock(machine, loop.body, { values: new Map([[loop.name, i]]), outer: env });
  if (loop.how !== "workgroup") {
    for (let i = from; i < to; i += loop.step) yield* iteration(i);
    return;
  }
  // Every iteration runs up to its next barrier before any of them goes on.
  const { group } = machine;
  group.run++;
  const running: Progress[] = [];
  for (let i = from; i < to; i += loop.step) running.push(iteration(i));
  for (;;) {
    const ended = running.filter((progress, i) => {
      group.lane = i;
      return progress.next().done === true;
    });
    group.epoch++;
    group.lane = 0;
    if (ended.length === running.length) return;
    if (ended.length > 0) {
      throw new IrError(`kernel ${machine.kernel.name}`, "some iterations of a workgroup loop miss a barrier");
    }
  }
}

function evaluate(machine: Machine, expr: Expr, env: Env): Value {
  switch (expr.k) {
    case "num":
      return expr.value;
    case "ref":
      return scopeOf(expr.name, env).get(expr.name)!;
    case "load": {
      const memory = findMemory(machine, expr.buf);
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

function findMemory(machine: Machine, name: string): Memory {
  const memory = machine.memory.get(name);
  if (memory === undefined) throw new IrError(`kernel ${machine.kernel.name}`, `has no buffer ${name}`);
  return memory;
}
