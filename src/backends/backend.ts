/** What a backend is: a target record, and a way to turn a plan into something that runs. */
import type { Plan } from "../ir/plan.ts";
import type { Target } from "../ir/target.ts";
import type { TensorData } from "../ir/tensor.ts";

export interface Backend {
  readonly target: Target;
  /** What is emitted for each kernel of the plan, as text: also for plans that are too large to run. */
  readonly emit: (plan: Plan) => readonly string[];
  /** Emits and compiles the plan's kernels. @throws UnsupportedError when they cannot run here. */
  readonly load: (plan: Plan) => Program;
}

/** A plan made executable, without memory. */
export interface Program {
  /** What was emitted for each kernel of the plan, as text. */
  readonly sources: readonly string[];
  /** Binds memory. Programs of several buckets share weights and caches by being given the same arrays. */
  readonly instantiate: (memory: ProgramMemory) => Instance;
}

export interface ProgramMemory {
  /** The value of weight expression `index` of a function, for the `layer` of a call (null outside layers). */
  readonly weight: (func: string, index: number, layer: number | null) => TensorData;
  /** Memory for entry parameters by name, such as caches; others are allocated. */
  readonly params?: ReadonlyMap<string, TensorData>;
  /** Called after each launch with the kernel's number in the plan and its milliseconds; slows running down. */
  readonly onLaunch?: (kernel: number, ms: number) => void;
}

export interface Instance {
  /** Memory of the entry's parameters; write inputs here before `run`. */
  readonly params: readonly TensorData[];
  /** Memory of the results, valid after `run` until the next. A result left in a parameter's memory is that memory. */
  readonly results: readonly TensorData[];
  readonly run: () => void | Promise<void>;
}
