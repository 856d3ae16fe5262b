/** A compiled model decoding ahead: programs of `decode` by bucket and kind of sampler, on the caches of the runner. */
import type { CompileOptions, Device, Executable, Instance, RunTimes } from "../../compile.ts";
import { compile } from "../../compile.ts";
import { InternalError } from "../../ir/errors.ts";
import type { Plan } from "../../ir/plan.ts";
import type { TensorData } from "../../ir/tensor.ts";
import type { ModelConfig } from "../../models/deepseek/config.ts";
import { buildDecode } from "../../models/deepseek/decode.ts";
import type { BuildOptions } from "../../models/deepseek/model.ts";
import type { SamplerKind } from "../../models/sampling/sample.ts";
import { emptyRow, penalises, samplerKind, samplerRow, uniformOf, writeCounts } from "../engine/ahead.ts";
import { type BucketLimits, bucketFor, bucketKey } from "../engine/bucket-ladder.ts";
import { fillBatch } from "./padded-batch.ts";
import type { AheadRow, AheadRun, AheadRunner, RaggedBatch } from "./step.ts";

export interface DecodeAheadOptions {
  readonly config: ModelConfig;
  readonly device: Device;
  readonly limits: BucketLimits;
  readonly build: BuildOptions;
  readonly compile: CompileOptions;
  /** Most steps queued at once. */
  readonly maxSteps: number;
  /** Binds a program to the weights and the caches. */
  readonly bind: (executable: Executable) => Promise<Instance>;
}

export interface MeasuredSteps {
  readonly times: RunTimes;
  readonly plan: Plan;
}

interface Loaded {
  readonly instance: Instance;
  readonly executable: Executable;
  readonly blocks: number;
  /** Rows of the bucket. */
  readonly rows: number;
}

export class DecodeAhead implements AheadRunner {
  readonly #options: DecodeAheadOptions;
  readonly #loaded = new Map<string, Promise<Loaded>>();

  constructor(options: DecodeAheadOptions) {
    this.#options = options;
  }

  get maxSteps(): number {
    return this.#options.maxSteps;
  }

  /** The program that would decode so, for reports. */
  async program(count: number, blocks: number, kind: SamplerKind): Promise<Executable> {
    return (await this.#load(count, blocks, kind)).executable;
  }

  /** Where the time of so many steps goes, with the plan whose kernels are counted; undefined where the device does not say. */
  async measure(batch: RaggedBatch, rows: readonly AheadRow[], times: number): Promise<MeasuredSteps | undefined> {
    const blocks = Math.max(...batch.blockTables.map((table) => table.length));
    const { instance, executable } = await this.#load(rows.length, blocks, samplerKind(rows));
    await this.start(batch, rows);
    const found = await instance.measure?.(times);
    return found && { times: found, plan: executable.plan };
  }

  /** Loads programs anew where they are needed next; none may be running. */
  forget(): void {
    for (const loaded of this.#loaded.values())
      loaded.then(
        ({ instance }) => instance.release(),
        () => {},
      );
    this.#loaded.clear();
  }

  async start(batch: RaggedBatch, rows: readonly AheadRow[]): Promise<AheadRun> {
    const blocks = Math.max(...batch.blockTables.map((table) => table.length));
    const loaded = await this.#load(rows.length, blocks, samplerKind(rows));
    const memory = memoryOf(loaded);
    fillBatch((name) => memory[name], batch, loaded.blocks);
    const { counts } = memory;
    counts?.fill(0);
    for (let i = 0; i < loaded.rows; i++) {
      const row = rows[i];
      memory.options.set(row === undefined ? emptyRow : samplerRow(row.sampling), i * emptyRow.length);
      if (!(counts instanceof Float32Array) || !row?.history || !penalises(row.sampling)) continue;
      const vocabulary = counts.length / loaded.rows;
      writeCounts(counts.subarray(i * vocabulary, (i + 1) * vocabulary), row.history);
    }
    return new Run(loaded, rows, batch.positions[0]!);
  }

  #load(count: number, blocks: number, kind: SamplerKind): Promise<Loaded> {
    const { config, device, limits, build, compile: options, maxSteps, bind } = this.#options;
    const bucket = bucketFor({ tokens: count, sequences: count, blocks, outputs: count }, limits);
    const key = `${bucketKey(bucket)} ${JSON.stringify(kind)}`;
    let loaded = this.#loaded.get(key);
    if (loaded === undefined) {
      const executable = compile(buildDecode(config, { ...bucket, steps: maxSteps, kind }, build), device, options);
      checkFeedback(executable);
      const ready = async (): Promise<Loaded> => {
        const instance = await bind(executable);
        // What compiles in the background must be there before steps are queued.
        await instance.queue?.({ times: 0, write: [], read: memoryOf({ instance, executable }).ids });
        return { instance, executable, blocks: bucket.blocks, rows: bucket.tokens };
      };
      loaded = ready();
      this.#loaded.set(key, loaded);
      loaded.catch(() => this.#loaded.delete(key));
    }
    return loaded;
  }
}

class Run implements AheadRun {
  readonly #loaded: Loaded;
  readonly #rows: readonly AheadRow[];
  readonly #start: number;
  #done = 0;
  /** What is under way, for devices that run one thing at a time. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(loaded: Loaded, rows: readonly AheadRow[], start: number) {
    this.#loaded = loaded;
    this.#rows = rows;
    this.#start = start;
  }

  queue(steps: number): Promise<Int32Array> {
    const first = this.#done;
    this.#done += steps;
    const { instance } = this.#loaded;
    const result =
      instance.queue === undefined ? this.#last.then(() => this.#runNow(first, steps)) : this.#queueOn(first, steps);
    this.#last = result.catch(() => {});
    return result;
  }

  async #queueOn(first: number, times: number): Promise<Int32Array> {
    const { instance } = this.#loaded;
    const memory = memoryOf(this.#loaded);
    this.#fill(first, times);
    const again = [memory.start, memory.uniforms];
    const all = [memory.tokens, memory.positions, memory.sequence, memory.slots, memory.blockTable, memory.outputs];
    if (memory.counts !== undefined) all.push(memory.counts);
    const write = first === 0 ? [...all, memory.options, ...again] : again;
    const ids = await instance.queue!({ times, write, read: memory.ids });
    return this.#used(ids, times);
  }

  async #runNow(first: number, times: number): Promise<Int32Array> {
    this.#fill(first, times);
    for (let i = 0; i < times; i++) await this.#loaded.instance.run();
    return this.#used(memoryOf(this.#loaded).ids, times);
  }

  /** The inputs of the steps from `first` on. */
  #fill(first: number, times: number): void {
    const { start, uniforms } = memoryOf(this.#loaded);
    start[0] = this.#start + first;
    for (let step = 0; step < times; step++) {
      for (const [i, { sampling, position }] of this.#rows.entries())
        uniforms[step * this.#loaded.rows + i] = uniformOf(sampling, position + first + step);
    }
  }

  /** The ids of the steps that were run and of rows that do not fill up the bucket. */
  #used(ids: TensorData, times: number): Int32Array {
    const { rows } = this.#loaded;
    const count = this.#rows.length;
    return Int32Array.from({ length: times * count }, (_, i) => ids[Math.floor(i / count) * rows + (i % count)]!);
  }
}

/** What a step leaves must lie where the next looks for it. */
function checkFeedback({ plan }: Executable): void {
  const { donated, results } = plan.funcs.get(plan.entry)!;
  for (const [i, param] of donated.entries())
    if (param === null) throw new InternalError("decode", `${results[i]!.name} is not left in the memory of an input`);
}

const inputNames = [
  "tokens",
  "positions",
  "sequence",
  "slots",
  "blockTable",
  "outputs",
  "start",
  "uniforms",
  "options",
  "ids",
] as const;

type Numbers = Int32Array | Float32Array;

/** The memory of the parameters of `decode` before its caches. */
function memoryOf({ instance, executable }: Pick<Loaded, "instance" | "executable">): Record<
  (typeof inputNames)[number],
  Numbers
> & {
  readonly counts?: Numbers;
} {
  const { params } = executable.plan.funcs.get(executable.plan.entry)!;
  const names = [...inputNames, ...(params[inputNames.length]?.name === "counts" ? ["counts"] : [])];
  const found = names.map((name, i) => {
    const data = instance.params[i];
    if (data instanceof Int32Array || data instanceof Float32Array) return [name, data] as const;
    throw new InternalError("decode", `parameter ${name} is neither i32 nor f32`);
  });
  return Object.fromEntries(found) as ReturnType<typeof memoryOf>; // all names have an entry
}
