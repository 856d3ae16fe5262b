/** The debug variables of the environment as options of `compile`: the only place where they become behaviour. */
import type { CompileOptions, Executable } from "./compile.ts";
import { type Env, readEnv } from "./env.ts";
import { InputError } from "./ir/errors.ts";
import { printKernel } from "./ir/kernel/print.ts";
import { printPlan } from "./ir/plan.ts";
import { printModule } from "./ir/print.ts";
import { disable, dump, tracing } from "./passes/instruments.ts";
import type { Instrument } from "./passes/pass.ts";

/** Options as the variables of docs/env.md ask for; use as defaults under those of a call. */
export function compileOptionsFromEnv(env: Env = readEnv()): CompileOptions {
  const instruments: Instrument[] = [];
  if (env.DISABLE_PASS.length > 0) instruments.push(disable(env.DISABLE_PASS));
  if (env.DUMP !== "") instruments.push(dumpTo(env.DUMP, env.DUMP_PASS));
  if (env.TRACE !== "") instruments.push(traceTo(env.TRACE));
  if (env.DEBUG >= 5)
    instruments.push({ after: (pass, _, after) => log(`after ${pass.name}:\n${printModule(after)}`) });
  return {
    // Between 0 and 3, as the variable's parser says.
    verify: env.VERIFY as 0 | 1 | 2 | 3,
    optimize: !env.NOOPT,
    instruments,
    disabledRules: env.DISABLE_RULE,
    seed: env.SEED,
    ...(env.DEBUG === 0 ? {} : { onCompiled: (executable: Executable) => logCompiled(executable, env.DEBUG) }),
  };
}

/** The first module compiled is dumped to the folder itself, others (further buckets) to folders 2, 3, ... in it. */
function dumpTo(folder: string, pattern: RegExp): Instrument {
  let count = 0;
  let current = dump({ write: () => {} });
  return {
    start: (module) => {
      count++;
      const into = count === 1 ? folder : `${folder}/${count}`;
      current = dump({ pattern, write: (name, text) => writeDebugFile("DUMP", into, name, text) });
      current.start?.(module);
    },
    after: (...args) => current.after?.(...args),
  };
}

/** Written anew after every pass, so that a pass that throws leaves a trace of those before it. */
function traceTo(file: string): Instrument {
  const { instrument, trace } = tracing();
  return {
    ...instrument,
    after: (...args) => {
      instrument.after?.(...args);
      writeDebugFile("TRACE", null, file, JSON.stringify(trace));
    },
  };
}

function logCompiled({ module, plan, program, report, target }: Executable, level: number): void {
  const ms = Object.entries(report.ms).map(([phase, time]) => `${phase} ${time.toFixed(0)} ms`);
  const { kernels, launches, bytes, arenaBytes } = report;
  log(
    `compiled @${module.name} for ${target.name}: ${kernels} kernels, ${launches} launches, ${bytes} bytes touched, arena ${arenaBytes} bytes; ${ms.join(", ")}`,
  );
  if (level >= 5) log(`${plan.kernels.map(printKernel).join("\n")}\n${printPlan(plan)}`);
  if (level >= 4) log(program.sources.join("\n\n"));
}

function log(text: string): void {
  console.error(text);
}

/** Synchronous, since passes are. @throws InputError naming the variable when the file cannot be written. */
function writeDebugFile(variable: string, folder: string | null, name: string, text: string): void {
  const fs = typeof process === "undefined" ? undefined : process.getBuiltinModule?.("node:fs");
  if (fs === undefined) throw new InputError(variable, "files can only be written under Node");
  const path = folder === null ? name : `${folder}/${name}`;
  try {
    if (folder !== null) fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(path, text);
  } catch (cause) {
    const why = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new InputError(variable, `cannot write ${path}: ${why}`, { cause });
  }
}
