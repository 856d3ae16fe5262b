/** The debug variables of the environment as options of `compile`: the only place where they become behaviour. */
import type { CompileOptions, Executable } from "./compile.ts";
import { type Env, readEnv } from "./env.ts";
import type { Kernel } from "./ir/kernel/kernel.ts";
import { printKernel } from "./ir/kernel/print.ts";
import { printPlan } from "./ir/plan.ts";
import { printModule } from "./ir/print.ts";
import { jsTarget } from "./ir/target.ts";
import { checkDisabled } from "./passes/disabled.ts";
import { dump, tracing } from "./passes/instruments.ts";
import type { Instrument } from "./passes/pass.ts";
import { passNames } from "./passes/pipeline.ts";
import { traceFile } from "./trace-file.ts";

/** Writes a file that a variable asks for. @throws InputError naming the variable. */
export type WriteFile = (variable: string, path: string, text: string) => void;

/**
 * Options as the variables of docs/env.md ask for; use as defaults under those of a call.
 * @throws InputError for a value that makes no sense, and for a pass or rule to be disabled that does not exist
 */
export function compileOptionsFromEnv(write: WriteFile, env: Env = readEnv()): CompileOptions {
  checkDisabled(passNames(jsTarget), { passes: env.DISABLE_PASS, rules: env.DISABLE_RULE });
  const instruments: Instrument[] = [];
  if (env.DUMP !== "") instruments.push(dumpTo(env.DUMP, env.DUMP_PASS, write));
  const trace = env.TRACE === "" ? undefined : traceTo(env.TRACE, write);
  if (trace !== undefined) instruments.push(trace.instrument);
  const compiled = [
    ...(trace === undefined ? [] : [trace.onCompiled]),
    ...(env.DEBUG === 0 ? [] : [(executable: Executable) => logCompiled(executable, env.DEBUG)]),
  ];
  if (env.DEBUG >= 5)
    instruments.push({ after: (pass, _, after) => log(`after ${pass.name}:\n${printModule(after)}`) });
  return {
    // Between 0 and 3, as the variable's parser says.
    verify: env.VERIFY as 0 | 1 | 2 | 3,
    optimize: !env.NOOPT,
    instruments,
    disabledPasses: env.DISABLE_PASS,
    disabledRules: env.DISABLE_RULE,
    seed: env.SEED,
    ...(compiled.length === 0
      ? {}
      : {
          onCompiled: (executable: Executable) => {
            for (const each of compiled) each(executable);
          },
        }),
  };
}

/** The first module compiled is dumped to the folder itself, others (further buckets) to folders 2, 3, ... in it. */
function dumpTo(folder: string, pattern: RegExp, write: WriteFile): Instrument {
  let count = 0;
  let current = dump({ write: () => {} });
  return {
    start: (module) => {
      count++;
      const into = count === 1 ? folder : `${folder}/${count}`;
      current = dump({ pattern, write: (name, text) => write("DUMP", `${into}/${name}`, text) });
      current.start?.(module);
    },
    after: (...args) => current.after?.(...args),
  };
}

interface Tracing {
  readonly instrument: Instrument;
  readonly onCompiled: (executable: Executable) => void;
}

/**
 * Traces the first module that is compiled. Written anew after every pass, so that a pass that throws leaves a trace of those
 * before it, and with kernels and memory once there are some.
 */
function traceTo(file: string, write: WriteFile): Tracing {
  const { instrument, trace } = tracing();
  let compiled = 0;
  return {
    instrument: {
      ...instrument,
      after: (...args) => {
        instrument.after?.(...args);
        if (compiled === 0) write("TRACE", file, JSON.stringify(trace));
      },
    },
    onCompiled: (executable) => {
      const { sources } = executable.program;
      if (compiled++ === 0) write("TRACE", file, JSON.stringify(traceFile(trace, executable, sources)));
    },
  };
}

function logCompiled({ module, plan, program, report, target }: Executable, level: number): void {
  const ms = Object.entries(report.ms).map(([phase, time]) => `${phase} ${time.toFixed(0)} ms`);
  const { kernels, launches, bytes, arenaBytes } = report;
  log(
    `compiled @${module.name} for ${target.name}: ${kernels} kernels, ${launches} launches, ${bytes} bytes touched, arena ${arenaBytes} bytes; ${ms.join(", ")}`,
  );
  if (level >= 3) log(plan.kernels.flatMap(scheduleOf).join("\n"));
  if (level >= 5) log(`${plan.kernels.map(printKernel).join("\n")}\n${printPlan(plan)}`);
  if (level >= 4) log(program.sources.join("\n\n"));
}

/** What the scheduler noted in a kernel. */
function scheduleOf({ name, body }: Kernel): string[] {
  return body.flatMap((stmt) => (stmt.k === "note" ? [`${name}: ${stmt.text}`] : []));
}

function log(text: string): void {
  console.error(text);
}
