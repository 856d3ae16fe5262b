/**
 * The benchmark of the CPU backend against its peers: `node bench/cpu/main.ts [--quick] [--json]`; see README.md for
 * the flags. Every engine runs in a process of its own; those of a group are loaded together and sampled in turns.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type Bandwidth, measureBandwidth } from "./bandwidth.ts";
import { bytesPerToken } from "./bytes.ts";
import type { Spec } from "./candidates/candidate.ts";
import { serve } from "./child.ts";
import { type EngineProcess, startEngine } from "./engine-process.ts";
import { locked } from "./lock.ts";
import { describeMachine } from "./machine.ts";
import { defaultLayers, type Shape, type ShapeName, shapeNames, shapeOf } from "./make/shapes.ts";
import { type Measured, measure, type Task } from "./measure.ts";
import { type OpReport, opBench, opFormats, opPeers, showOps } from "./ops/op-bench.ts";
import type { OpSpec } from "./ops/op-runner.ts";
import { type GroupReport, type RowReport, showBandwidth, showGroup, showMachine } from "./report.ts";
import { type Group, type GroupName, groupNames, groupsOf } from "./rows.ts";

const flags = {
  models: { type: "string", default: "qwen,v2lite" },
  layers: { type: "string" },
  threads: { type: "string", default: "1,2" },
  groups: { type: "string", default: "int8,int4" },
  tasks: { type: "string", default: "decode128,decode1024,prefill512" },
  peers: { type: "string", default: "llama,wllama,ort,ort-web,tfjs" },
  ops: { type: "string", default: "int4,int8,f32" },
  builds: { type: "string", default: "best,icelake" },
  batch: { type: "string", default: "128" },
  rounds: { type: "string" },
  method: { type: "string" },
  cache: { type: "string", default: fileURLToPath(new URL("models", import.meta.url)) },
  lock: { type: "string" },
  quick: { type: "boolean", default: false },
  verify: { type: "boolean", default: false },
  json: { type: "boolean", default: false },
} as const;

async function main(): Promise<void> {
  const { values } = parseArgs({ options: flags });
  const log = (text: string) => console.error(text);
  const show = (text: string) => {
    if (!values.json) console.log(`${text}\n`);
  };
  const machine = describeMachine();
  show(showMachine(machine));
  const threadCounts = list(values.threads).map(Number);
  const bandwidth: Bandwidth[] = [];
  for (const threads of threadCounts) {
    bandwidth.push(await locked(values.lock, () => measureBandwidth(threads)));
    show(showBandwidth(bandwidth.at(-1)!));
  }
  const groups: GroupReport[] = [];
  for (const name of chosen<ShapeName>(values.models, shapeNames, "--models")) {
    const shape = shapeOf(name, Number(values.layers ?? (values.quick ? 4 : defaultLayers[name])));
    for (const threads of threadCounts) {
      const options = {
        ...{ shape, threads, log, cache: values.cache, batch: Number(values.batch) },
        method: chosen(values.method ?? (values.quick ? "range" : "mse"), ["mse", "range"] as const, "--method")[0]!,
        ...{ peers: list(values.peers), builds: list(values.builds) },
      };
      for (const group of groupsOf(chosen<GroupName>(values.groups, groupNames, "--groups"), options)) {
        const tasks = tasksOf(list(values.tasks), values.quick, values.rounds);
        groups.push(await runGroup(group, shape, { threads, tasks, lock: values.lock, verify: values.verify, log }));
        show(showGroup(groups.at(-1)!, bandwidth));
      }
    }
  }
  const ops: OpReport[] = [];
  const peers = opPeers.filter((peer) => list(values.peers).includes(peer));
  const formats = chosen(values.ops, opFormats, "--ops");
  for (const threads of peers.length === 0 ? [] : threadCounts) {
    ops.push(...(await opBench({ threads, peers, formats, quick: values.quick, lock: values.lock, log })));
    show(showOps(ops.filter((op) => op.threads === threads)));
  }
  if (values.json) console.log(JSON.stringify({ machine, bandwidth, groups, ops }, null, 2));
}

/** Fewer rounds where a sample takes seconds. */
function tasksOf(names: readonly string[], quick: boolean, rounds: string | undefined): Task[] {
  if (rounds !== undefined && !/^[1-9]\d*$/.test(rounds))
    throw new Error(`--rounds: ${rounds}: expected a whole number`);
  return names.map((name): Task => {
    const [, kind, digits] = /^(decode|prefill)(\d+)$/.exec(name) ?? [];
    if (kind === undefined) throw new Error(`--tasks: ${name}: expected e.g. decode128 or prefill512`);
    const size = Number(digits);
    const decode = kind === "decode";
    const tokens = decode ? (quick ? 4 : 8) : size;
    const usual = decode ? (quick ? 5 : 11) : quick ? 1 : 3;
    return {
      name,
      tokens,
      context: decode ? size : null,
      request: decode ? { do: "decode", context: size, count: tokens } : { do: "prefill", count: size },
      rounds: Number(rounds ?? usual),
      warmUps: decode ? 2 : 1,
    };
  });
}

interface GroupOptions {
  readonly threads: number;
  readonly tasks: readonly Task[];
  readonly lock: string | undefined;
  readonly verify: boolean;
  readonly log: (text: string) => void;
}

async function runGroup(group: Group, shape: Shape, options: GroupOptions): Promise<GroupReport> {
  const { threads, tasks, lock, verify, log } = options;
  const running: { name: string; spec: Spec; engine: EngineProcess; tasks: Record<string, Measured> }[] = [];
  const failed: RowReport[] = [];
  for (const { name, spec } of group.rows) {
    log(`loading ${name}, ${threads} threads`);
    try {
      const engine = await startEngine(spec);
      running.push({ name, spec, engine, tasks: {} });
      log(`  ${engine.loaded.value}`);
    } catch (error) {
      const failure = error instanceof Error ? error.message : String(error);
      failed.push({ name, info: "", loadSeconds: 0, peakBytes: 0, bytesPerToken: 0, tasks: {}, failure });
    }
  }
  for (const task of tasks) {
    log(`measuring ${task.name}`);
    const engines = running.map(({ engine }) => engine);
    const measured = await locked(lock, () => measure(engines, task));
    for (const [i, each] of running.entries()) each.tasks[task.name] = measured[i]!;
  }
  const rows: RowReport[] = [];
  for (const { name, spec, engine, tasks: done } of running) {
    if (verify) log(`${name}: ${(await engine.ask({ do: "greedy", context: 20, count: 8 })).value}`);
    rows.push({
      name,
      info: String(engine.loaded.value),
      loadSeconds: engine.loaded.ms / 1000,
      peakBytes: Number((await engine.ask({ do: "memory" })).value),
      bytesPerToken: bytesPerToken(shape, spec, 128),
      tasks: done,
    });
    await engine.close();
  }
  const { title, baselines } = group;
  return { model: shape.title, group: title, threads, baselines, rows: [...rows, ...failed] };
}

function list(text: string): string[] {
  return text.split(",").filter((part) => part !== "");
}

function chosen<T extends string>(text: string, names: readonly T[], flag: string): T[] {
  return list(text).map((name) => {
    const found = names.find((known) => known === name);
    if (found === undefined) throw new Error(`${flag}: ${name}: expected some of ${names.join(", ")}`);
    return found;
  });
}

const [first, spec] = process.argv.slice(2);
// The parent is this same program, which wrote the text.
if (first === "--child") await serve(JSON.parse(spec!) as Spec | OpSpec);
else await main();
