/**
 * What a pass is, and `runPasses`, which runs a list of them and finds out which one broke something. A pass contains
 * no logging, timing or checking: invariants say what holds after it, instruments watch.
 */
import { InternalError, invariant } from "../ir/errors.ts";
import { Builder, type Func, type Module, mapFuncs, type Node, named, nameOf, rebuild } from "../ir/graph.ts";
import type { Match } from "../ir/rewrite.ts";
import type { Target } from "../ir/target.ts";
import { type Invariant, verifyModule } from "../ir/verify.ts";
import { validate } from "./validate.ts";

export interface PassContext {
  readonly target: Target;
  /** Every node of the module was made by this Builder, so equal nodes are the same object. */
  readonly builder: Builder;
  /** Rules, by name, that must not be applied. */
  readonly disabledRules: readonly string[];
  /** Called with every match of a rewrite rule. */
  readonly onMatch: (match: Match) => void;
}

export interface Pass {
  readonly name: string;
  readonly level: "tensor" | "kernel";
  /** Bit for bit the same results under the interpreter; otherwise equal up to rounding. */
  readonly exact: boolean;
  /** What must have been given by an earlier pass. */
  readonly needs?: readonly Invariant[];
  /** What holds from this pass on, checked after every later pass. */
  readonly gives?: readonly Invariant[];
  /** Returns the same object where nothing changed. */
  readonly run: (module: Module, context: PassContext) => Module;
}

export interface Instrument {
  /** Called once, with the module that the first pass gets. */
  readonly start?: (module: Module) => void;
  /** Returning false skips the pass. */
  readonly before?: (pass: Pass, module: Module) => boolean | undefined;
  readonly match?: (pass: Pass, match: Match) => void;
  readonly after?: (pass: Pass, before: Module, after: Module, ms: number) => void;
}

export interface PassOptions {
  /**
   * 0: no checks. 1: invariants before the first and after the last pass. 2: after each pass, and that a pass returns
   * the same object exactly when it changed nothing. 3: also interprets the entry before and after each pass on small
   * random inputs, which only suits small models.
   */
  readonly verify?: 0 | 1 | 2 | 3;
  readonly instruments?: readonly Instrument[];
  /** Passes, by name, that are skipped. */
  readonly disabledPasses?: readonly string[];
  readonly disabledRules?: readonly string[];
  /** For the random inputs of verify 3. */
  readonly seed?: number;
}

/** Runs `passes` in order and returns the last module. Throws an InternalError that names the pass at fault. */
export function runPasses(module: Module, passes: readonly Pass[], target: Target, options: PassOptions = {}): Module {
  const { verify = 1, instruments = [], disabledPasses = [], disabledRules = [], seed = 1 } = options;
  const given = new Map<string, Invariant>();
  if (verify >= 1) verifyModule(module);
  const builder = new Builder();
  let current = intern(module, builder);
  for (const instrument of instruments) instrument.start?.(current);
  for (const pass of passes) {
    if (disabledPasses.includes(pass.name)) continue;
    if (instruments.some((instrument) => instrument.before?.(pass, current) === false)) continue;
    for (const { name } of pass.needs ?? []) {
      invariant(given.has(name), () => `needs ${name}, which no pass before it gives`, `pass ${pass.name}`);
    }
    const onMatch = (match: Match) => {
      for (const instrument of instruments) instrument.match?.(pass, match);
    };
    const funcs = [...current.funcs];
    const started = performance.now();
    const next = pass.run(current, { target, builder, disabledRules, onMatch });
    const ms = performance.now() - started;
    for (const each of pass.gives ?? []) given.set(each.name, each);
    for (const instrument of instruments) instrument.after?.(pass, current, next, ms);
    if (verify >= 2) {
      checkSameObject(pass, funcs, current, next);
      blame(pass, () => verifyModule(next, [...given.values()]));
    }
    if (verify >= 3 && next !== current) {
      blame(pass, () => validate(current, next, { exact: pass.exact, seed }));
    }
    current = next;
  }
  if (verify === 1) verifyModule(current, [...given.values()]);
  return current;
}

/** The module with every node made by `builder`: nodes of different builders are never the same object. */
export function intern(module: Module, builder: Builder): Module {
  return mapFuncs(module, (func) => {
    const renew = (node: Node, ins: readonly Node[]): Node => {
      const copy = builder.make(node.op, ins, node.attrs);
      const name = nameOf(node);
      return name === undefined ? copy : named(name, copy);
    };
    const { roots } = rebuild(func.outs, builder, (node) => renew(node, node.ins));
    const params = func.params.map((param) => builder.make("param", [], param.attrs));
    return { name: func.name, params, outs: roots };
  });
}

/** Rewrites the results of each function; the same module where no result changed. */
export function mapOuts(module: Module, change: (func: Func) => readonly Node[]): Module {
  return mapFuncs(module, (func) => {
    const outs = change(func);
    return outs.every((out, i) => out === func.outs[i]) ? func : { ...func, outs };
  });
}

/** With interned nodes, "nothing changed" is identity of all results. */
function checkSameObject(pass: Pass, funcs: readonly [string, Func][], before: Module, after: Module): void {
  const unchanged =
    after.funcs.size === funcs.length &&
    after.entry === before.entry &&
    funcs.every(([name, func]) => {
      const now = after.funcs.get(name);
      return now?.outs.length === func.outs.length && now.outs.every((out, i) => out === func.outs[i]);
    });
  const where = `pass ${pass.name}`;
  invariant(unchanged || after !== before, () => "changed the module in place", where);
  invariant(!unchanged || after === before, () => "changed nothing, but returned another module", where);
}

/** Runs `check`; a failure becomes an InternalError that names the pass and says how to look at it. */
function blame(pass: Pass, check: () => void): void {
  try {
    check();
  } catch (cause) {
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new InternalError(`pass ${pass.name}`, what, { cause, hint: nextCommand(pass) });
  }
}

function nextCommand({ name }: Pass): string {
  return `This is a bug in ciuic. To see what ${name} did, run the same command with DUMP=out DUMP_PASS='^${name}$' VERIFY=2; to go on without it, DISABLE_PASS=${name}.`;
}
