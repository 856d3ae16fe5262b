/**
 * The values of weight expressions, shared by the programs of all buckets. They are evaluated block by block as parts of
 * tensors are read, into the device's memory: loading needs the compiled weights and a few blocks, whatever the sizes, and
 * of the host's memory nothing but these blocks where the device has its own.
 */
import type { Device, WeightFill } from "../../compile.ts";
import {
  blocksOf,
  type FoldBlock,
  type FoldOptions,
  FoldPrograms,
  foldDevice,
  foldKey,
  groupsOf,
  offsetsOf,
  piecesOf,
  smallFold,
  type WeightPart,
} from "../../fold.ts";
import { InputError, invariant } from "../../ir/errors.ts";
import { isOp, type Node, topoOrder } from "../../ir/graph.ts";
import type { Plan } from "../../ir/plan.ts";
import { storageLength, type Tensor, type TensorData, viewOf, zeros } from "../../ir/tensor.ts";
import { byteSize, dtypeInfo, sameType, showType, sizeOf, type TensorType, tensorType } from "../../ir/types.ts";
import { putElements, type StoredTensor, weightParts } from "../../ir/weight.ts";
import { ReadBuffers, readAhead } from "./read-ahead.ts";
import type { ElementRange } from "./safetensors.ts";

/**
 * Reads elements of one tensor of the checkpoint by name: into `into`, which has their length, or the whole tensor if
 * it gives one. Gives the type that the tensor has as a whole.
 */
export type ReadWeight = (name: string, range: ElementRange, into: TensorData) => Promise<TensorType | Tensor>;

/** Called after each group of expressions with the bytes of compiled weights done and in all. */
export type WeightProgress = (done: number, total: number) => void;

export interface WeightStoreOptions {
  /** Elements of weights that are computed at once, about. Default 2^19. */
  readonly blockElements?: number;
  /** Blocks read ahead of the one that is computed. Default 3. */
  readonly readAhead?: number;
  /** Blocks of fewer elements are interpreted instead of compiled. Default 8192. */
  readonly smallFold?: number;
  /** Where a tensor is, for devices that read files themselves. Default: in no file. */
  readonly locate?: (name: string) => StoredTensor | null;
  /** How weights are evaluated for devices that leave this to the processor. Default: on one thread. */
  readonly fold?: FoldOptions;
}

/** Tensors that the reader gave whole and whose other parts are still needed: as many as blocks are read of at once. */
const mostWhole = 4;

/** Expressions that are evaluated together, of one layer or of none. */
interface Task {
  readonly exprs: readonly Node[];
  readonly layer: number | null;
  readonly blocks: readonly FoldBlock[];
}

interface Job {
  readonly task: Task;
  readonly block: FoldBlock;
}

/** Where weights go. */
interface Place {
  readonly begin: (type: TensorType) => WeightFill;
  /** Of a weight that does not become whole. */
  readonly giveUp: (data: TensorData) => void;
}

export class WeightStore {
  readonly #read: ReadWeight;
  readonly #device: Device;
  readonly #options: Required<WeightStoreOptions>;
  readonly #values = new Map<string, TensorData>();
  readonly #whole = new Map<string, Tensor>();
  #bytes = 0;
  /** The device's own memory, where it has such, or the host's. */
  readonly #onDevice: Place = {
    begin: (type) => this.#device.fill?.(type) ?? filledAs(type, this.#device.allocate(type)),
    giveUp: (data) => this.#device.free(data),
  };

  /** Values are evaluated into the device's memory. */
  constructor(read: ReadWeight, device: Device, options: WeightStoreOptions = {}) {
    this.#read = read;
    this.#device = device;
    const locate = () => null;
    this.#options = { blockElements: 2 ** 19, readAhead: 3, fold: {}, smallFold, locate, ...options };
  }

  /** Bytes of all values held. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Evaluates what the plan needs and the store has not. */
  async load(plan: Plan, progress: WeightProgress = () => {}, signal?: AbortSignal): Promise<void> {
    const tasks = this.#tasksOf(plan);
    const bytesOf = ({ exprs }: Task) => exprs.reduce((sum, { type }) => sum + byteSize(type), 0);
    const total = tasks.reduce((sum, task) => sum + bytesOf(task), 0);
    let done = 0;
    await this.#run(tasks, signal, (task, values) => {
      for (const [i, expr] of task.exprs.entries()) this.#values.set(keyOf(expr, task.layer), values[i]!);
      done += bytesOf(task);
      this.#bytes += bytesOf(task);
      progress(done, total);
    });
  }

  /** The value of a weight expression, which is kept only if a plan that was loaded needs it. */
  async evaluate(expr: Node, layer: number | null): Promise<TensorData> {
    const known = this.#values.get(keyOf(expr, layer));
    // What is on the device alone, or in files, has no elements here.
    if (known !== undefined && known.length === storageLength(expr.type)) return known;
    let value: TensorData | undefined;
    const task = { exprs: [expr], layer, blocks: blocksOf([expr], this.#options.blockElements) };
    const done = (_: Task, values: readonly TensorData[]) => {
      value = values[0];
    };
    await this.#run([task], undefined, done, { begin: onHost, giveUp: () => {} });
    invariant(value !== undefined, () => "a task without a value");
    return value;
  }

  /** Looks values up for a loaded plan. */
  lookup(plan: Plan): (func: string, index: number, layer: number | null) => TensorData {
    return (func, index, layer) => {
      const value = this.#values.get(keyOf(plan.funcs.get(func)!.weights[index]!, layer));
      invariant(value !== undefined, () => `weight ${index} of @${func} is not loaded`);
      return value;
    };
  }

  /** What the plan needs and the store has not, in the order of the model. */
  #tasksOf(plan: Plan): Task[] {
    const tasks: Task[] = [];
    const taken = new Set(this.#values.keys());
    const blocks = new Map<string, readonly FoldBlock[]>();
    const visit = (name: string, layer: number | null): void => {
      const { weights, steps } = plan.funcs.get(name)!;
      const wanted = weights.filter((expr) => {
        const key = keyOf(expr, layer);
        const isNew = !taken.has(key);
        taken.add(key);
        return isNew && !this.#isInFiles(expr, layer);
      });
      for (const exprs of groupsOf(wanted)) {
        const key = exprs.map(({ id }) => id).join();
        if (!blocks.has(key)) blocks.set(key, blocksOf(exprs, this.#options.blockElements));
        tasks.push({ exprs, layer, blocks: blocks.get(key)! });
      }
      for (const step of steps) if (step.step === "call") visit(step.func, step.layer);
    };
    visit(plan.entry, null);
    return tasks;
  }

  /** Leaves a weight to the device, where it reads files. */
  #isInFiles(expr: Node, layer: number | null): boolean {
    const data = this.#device.fromFiles?.(expr, ({ attrs: { name, dtype }, type }) => {
      const { names, shape } = weightParts(name, type.shape, layer ?? undefined);
      const found = names.map(this.#options.locate);
      // What is not as expected is read, which says so.
      return found.every((each) => each !== null && sameType(each.type, tensorType(dtype, shape)))
        ? (found as readonly StoredTensor[]) // each of them
        : null;
    });
    if (!data) return false;
    this.#values.set(keyOf(expr, layer), data);
    this.#bytes += byteSize(expr.type);
    return true;
  }

  async #run(
    tasks: readonly Task[],
    signal: AbortSignal | undefined,
    done: (task: Task, values: readonly TensorData[]) => void,
    place: Place = this.#onDevice,
  ): Promise<void> {
    const { device, close } = foldDevice(this.#device, this.#options.fold);
    const programs = new FoldPrograms(device, this.#options.smallFold);
    const buffers = new ReadBuffers();
    let fills: WeightFill[] = [];
    const read = ({ task, block }: Job) =>
      Promise.all(block.reads.map((part) => this.#readPart(part, task.layer, buffers)));
    try {
      for await (const { item, value: inputs } of readAhead(jobsOf(tasks), read, this.#options.readAhead)) {
        const { task, block } = item;
        signal?.throwIfAborted();
        if (block === task.blocks[0]) fills = task.exprs.map(({ type }) => place.begin(type));
        const results = await programs.run(block.func, inputs);
        for (const [i, box] of block.boxes.entries()) {
          const { from, to } = offsetsOf(task.exprs[i]!.type.shape, box);
          await fills[i]!.put(from, results[i]!, to - from);
        }
        for (const { buffer } of inputs) if (buffer instanceof ArrayBuffer) buffers.give(buffer);
        if (block !== task.blocks.at(-1)) continue;
        const finished = fills.map(({ data }) => data);
        fills = [];
        done(task, finished);
      }
    } finally {
      programs.release();
      await close();
      this.#whole.clear();
      for (const { data } of fills) place.giveUp(data);
    }
  }

  /** The next blocks need more of a tensor that was given whole. */
  #keep(name: string, tensor: Tensor): void {
    this.#whole.set(name, tensor);
    const [oldest] = this.#whole.keys();
    if (this.#whole.size > mostWhole && oldest !== undefined) this.#whole.delete(oldest);
  }

  /** The elements of a part of a weight, from each of the tensors that are stacked in it. */
  async #readPart(part: WeightPart, layer: number | null, buffers: ReadBuffers): Promise<TensorData> {
    const { names, own, range, type } = piecesOf(part, layer ?? undefined);
    const { dtype } = type;
    const count = range.to - range.from;
    const each = storageLength(tensorType(dtype, [count]));
    const data = viewOf(dtype, buffers.take(byteSize(type)), 0, storageLength(type));
    const whole = (dtypeInfo(dtype).bits * count) % 8 === 0;
    const readOne = async (name: string, i: number): Promise<void> => {
      const into = whole ? data.subarray(i * each, (i + 1) * each) : zeros(dtype, [count]).data;
      const given = this.#whole.get(name) ?? (await this.#read(name, range, into));
      if ("data" in given && count < sizeOf(own.shape)) this.#keep(name, given);
      const found = "data" in given ? given.type : given;
      if (!sameType(found, own)) {
        throw new InputError(`weight ${name}`, `expected ${showType(own)}, got ${showType(found)}`);
      }
      const from = storageLength(tensorType(dtype, [range.from]));
      if ("data" in given) into.set(given.data.subarray(from, from + each));
      if (!whole) putElements({ type, data }, i * count, into, count);
    };
    await Promise.all(names.map(readOne));
    return data;
  }
}

function* jobsOf(tasks: readonly Task[]): Generator<Job> {
  for (const task of tasks) for (const block of task.blocks) yield { task, block };
}

function onHost(type: TensorType): WeightFill {
  return filledAs(type, zeros(type.dtype, type.shape).data);
}

function filledAs(type: TensorType, data: TensorData): WeightFill {
  return { data, put: (at, part, count) => putElements({ type, data }, at, part, count) };
}

/** Bytes of all values that the plan needs, those of every layer. Compiles nothing. */
export function compiledWeightBytes(plan: Plan): number {
  const bytes = new Map<string, number>();
  const visit = (name: string, layer: number | null): void => {
    const { weights, steps } = plan.funcs.get(name)!;
    for (const expr of weights) bytes.set(keyOf(expr, layer), byteSize(expr.type));
    for (const step of steps) if (step.step === "call") visit(step.func, step.layer);
  };
  visit(plan.entry, null);
  return [...bytes.values()].reduce((sum, each) => sum + each, 0);
}

/** Weights without `{layer}` in their names are the same in every layer. */
function keyOf(expr: Node, layer: number | null): string {
  const key = foldKey(expr);
  return hasLayer(expr) ? `${layer} ${key}` : key;
}

function hasLayer(expr: Node): boolean {
  return topoOrder([expr]).some((node) => isOp(node, "weight") && node.attrs.name.includes("{layer}"));
}
