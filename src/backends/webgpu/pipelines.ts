/** Shaders and pipelines of a plan's kernels: compiled side by side when a program is loaded, waited for at its first run. */
import { UnsupportedError } from "../../ir/errors.ts";
import type { Kernel } from "../../ir/kernel/kernel.ts";
import { bufBytes } from "../../ir/kernel/walk.ts";
import { type GpuContext, reasonOf } from "./context.ts";
import { emitKernel } from "./emit.ts";
import { computeStage } from "./flags.ts";
import { type BoundKernel, type PartBinding, splitBindings } from "./split.ts";

export interface Compiled extends Shader {
  readonly emitted: BoundKernel;
}

export class Pipelines {
  readonly #context: GpuContext;
  readonly #kernels: readonly Kernel[];
  readonly #compiled = new Map<string, Compiled>();
  readonly #shaders: Shaders;

  constructor(context: GpuContext, shaders: Shaders, kernels: readonly Kernel[]) {
    this.#context = context;
    this.#shaders = shaders;
    this.#kernels = kernels;
  }

  /** The pipeline of a kernel whose buffers of these names are read but lie beside one that is written. */
  get(kernel: number, shared: ReadonlySet<string> = new Set()): Compiled {
    const key = [kernel, ...[...shared].sort()].join(" ");
    let compiled = this.#compiled.get(key);
    if (compiled === undefined) {
      compiled = this.#compile(this.#kernels[kernel]!, shared);
      this.#compiled.set(key, compiled);
    }
    return compiled;
  }

  /** The text of a kernel whose buffers all lie apart. */
  source(kernel: number): string {
    return this.#emit(this.#kernels[kernel]!, new Set()).source;
  }

  #compile(kernel: Kernel, shared: ReadonlySet<string>): Compiled {
    const emitted = this.#emit(kernel, shared);
    this.#checkCount(kernel, emitted.bindings);
    return { emitted, ...this.#shaders.get(kernel.name, emitted) };
  }

  #emit(kernel: Kernel, shared: ReadonlySet<string>): BoundKernel {
    const { limits, subgroup, packedDot, matrixUnits } = this.#context;
    return splitBindings(emitKernel(kernel, { shared, subgroup, packedDot, matrixUnits }), kernel, limits.binding);
  }

  #checkCount({ name, bufs }: Kernel, bindings: readonly PartBinding[]): void {
    const { buffers, binding } = this.#context.limits;
    if (bindings.length <= buffers) return;
    const globals = bufs.filter(({ space }) => space === "global");
    const parted = globals.flatMap((buf, i) => {
      const parts = bindings.filter((each) => each.buf === i).length;
      return parts > 1 ? [`${buf.name} of ${bufBytes(buf)} bytes in ${parts}`] : [];
    });
    const shown = parted.length > 0 ? ` of at most ${binding.most} bytes (${parted.join(", ")})` : "";
    throw new UnsupportedError(`kernel ${name}`, `has ${bindings.length} buffers${shown}: this GPU allows ${buffers}`, {
      ...(shown && { hint: "Quantise the weights, use a shorter context, or a GPU with larger limits." }),
    });
  }
}

/** What is compiled of a shader. */
interface Shader {
  readonly layout: GPUBindGroupLayout;
  readonly pipeline: Promise<GPUComputePipeline>;
}

/** The shaders of a device, each compiled once, however many kernels of however many programs have its text. */
export class Shaders {
  readonly #device: GPUDevice;
  readonly #watch: GpuContext["watch"];
  readonly #compiled = new Map<string, Shader>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();

  constructor(device: GPUDevice, watch: GpuContext["watch"]) {
    this.#device = device;
    this.#watch = watch;
  }

  get(name: string, emitted: BoundKernel): Shader {
    // Comments name tensor ops and shapes, in which programs of several buckets differ.
    const key = emitted.source.replaceAll(/ *\/\/.*$/gm, "");
    let shader = this.#compiled.get(key);
    if (shader === undefined) {
      shader = this.#compile(name, emitted);
      this.#compiled.set(key, shader);
    }
    return shader;
  }

  #compile(name: string, { source, bindings }: BoundKernel): Shader {
    const device = this.#device;
    const what = () => `kernel ${name}`;
    const layout = this.#layout(bindings.map(({ access }) => access));
    const { code, pipelineLayout } = this.#watch(what, () => ({
      code: device.createShaderModule({ label: name, code: source }),
      pipelineLayout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    }));
    const pipeline = device
      .createComputePipelineAsync({
        label: name,
        layout: pipelineLayout,
        compute: { module: code, entryPoint: "main" },
      })
      .catch(async (cause: unknown) => {
        const { messages } = await code.getCompilationInfo();
        const text = messages.map(({ lineNum, message }) => `line ${lineNum}: ${message}`).join("\n");
        throw new UnsupportedError(what(), `the GPU's compiler refuses it: ${text || reasonOf(cause)}`, {
          hint: `This is a bug; the shader is:\n${source}`,
          cause,
        });
      });
    // Whoever runs the program hears of it; until then nobody does.
    pipeline.catch(() => {});
    return { layout, pipeline };
  }

  #layout(access: readonly PartBinding["access"][]): GPUBindGroupLayout {
    const key = access.join();
    let layout = this.#layouts.get(key);
    if (layout === undefined) {
      const entries = access.map((each, binding) => ({
        binding,
        visibility: computeStage,
        buffer: { type: each === "read" ? ("read-only-storage" as const) : ("storage" as const) },
      }));
      layout = this.#device.createBindGroupLayout({ entries });
      this.#layouts.set(key, layout);
    }
    return layout;
  }
}
