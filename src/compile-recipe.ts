/** Compiling recipes: what their choices mean as options, and which format of weights fits a device. */
import {
  type Compiled,
  type CompileOptions,
  compile as compileModule,
  compileToPlan as compileModuleToPlan,
  type Device,
  defaultBackend,
  type Executable,
  findBackend,
  openDevice,
  type QuantizeOptions,
} from "./compile.ts";
import { InputError, showValue, UnsupportedError } from "./ir/errors.ts";
import type { Module } from "./ir/graph.ts";
import { heldBytes } from "./ir/plan.ts";
import type { Target } from "./ir/target.ts";
import { byteSize } from "./ir/types.ts";
import { type DeviceSpec, tuned } from "./plan/hardware.ts";
import { showBytes } from "./plan/show.ts";
import { type Choices, type Recipe, type RecipeStep, recipeOf } from "./recipe.ts";

export interface RecipeOptions extends CompileOptions {
  /** Choices as `quantize`, `prune`, `fuse` and `optimizeFor` give them; the options beside them go before them. */
  readonly passes?: readonly RecipeStep[];
}

/** What a recipe comes to. */
export interface Resolved {
  readonly options: CompileOptions;
  /** Why the weights have the format they have, where a device decided it. */
  readonly why: string | null;
}

/** Compiles for a device, or for one of its own of the backend of that name: by default the recipe's, else "wasm". */
export function compile(model: Module | Recipe<Module>, options?: RecipeOptions): Executable;
export function compile(model: Module | Recipe<Module>, on: string | Device, options?: RecipeOptions): Executable;
export function compile(
  model: Module | Recipe<Module>,
  on?: string | Device | RecipeOptions,
  more: RecipeOptions = {},
): Executable {
  if (typeof on === "object" && !("target" in on)) return compileOn(model, undefined, on);
  return compileOn(model, on, more);
}

function compileOn(
  model: Module | Recipe<Module>,
  on: string | Device | undefined,
  { passes, ...options }: RecipeOptions,
): Executable {
  const { source, choices } = moduleRecipe(model, passes);
  const wanted = on ?? choices.hardware?.backend ?? defaultBackend;
  const device = typeof wanted === "string" ? openDevice(wanted) : wanted;
  return compileModule(source, device, resolve(modulesOnly(choices), () => source, device.target, options).options);
}

/** Everything up to the plan, for a target whose device need not exist here: by default the recipe's. */
export function compileToPlan(
  model: Module | Recipe<Module>,
  on?: Target,
  { passes, ...options }: RecipeOptions = {},
): Compiled {
  const { source, choices } = moduleRecipe(model, passes);
  const target = on ?? findBackend(choices.hardware?.backend ?? defaultBackend).target;
  return compileModuleToPlan(source, target, resolve(modulesOnly(choices), () => source, target, options).options);
}

function moduleRecipe(model: Module | Recipe<Module>, passes?: readonly RecipeStep[]): Recipe<Module> {
  const recipe = recipeOf(model, passes);
  const source: unknown = recipe.source; // as programs that no compiler has checked may have it
  if (typeof source === "object" && source !== null && "funcs" in source) return recipe;
  const hint = typeof source === "string" ? "loadModel compiles the model of a folder." : "buildModel makes one.";
  throw new InputError("compile", `expected a module, got ${showValue(source)}`, { hint });
}

function modulesOnly(choices: Choices): Choices {
  if (choices.prune === undefined) return choices;
  const hint = "loadModel(prune(folder, ...)) reads weights as pruned, and builds the model without experts left out.";
  throw new UnsupportedError("compile prune", "prunes a model's folder, not a module, which has no weights", { hint });
}

/** The choices as options of `compile`; options given go before them. `module` gives what must fit. */
export function resolve(choices: Choices, module: () => Module, target: Target, given: CompileOptions): Resolved {
  const { fuse, quantize, hardware } = choices;
  const options = { ...(fuse !== undefined && { fuse }), ...(quantize !== undefined && { quantize }), ...given };
  const device = hardware?.device ?? null;
  const precision = hardware?.precision;
  if (options.quantize === undefined && precision === "f32")
    return { options: { ...options, quantize: { weights: "f32" } }, why: null };
  if (options.quantize === undefined && (precision === "int8" || precision === "int4")) {
    const why = `weights as ${precision}: chosen with the backend ${hardware?.backend}`;
    return { options: { ...options, quantize: { weights: precision } }, why };
  }
  if (device === null || options.quantize !== undefined) return { options, why: null };
  const { format, why } = fitFormat(module(), target, device, options);
  return { options: { ...options, ...(format !== null && { quantize: format }) }, why };
}

/** From the most precise to the smallest. */
const formats: readonly (QuantizeOptions | null)[] = [null, { weights: "int8" }, { weights: "int4" }];

/** The most precise format in which weights, caches and values of a step fit the device. @throws InputError if none does */
function fitFormat(module: Module, target: Target, device: DeviceSpec, options: CompileOptions) {
  const room = device.memory * tuned.memoryUse;
  let least = 0;
  for (const format of formats) {
    // Merged launches take most of the time of compiling and change little of the memory.
    const disabledPasses = [...(options.disabledPasses ?? []), "merge-launches"];
    const quiet = { ...options, verify: 0, instruments: [], disabledPasses } as const;
    const { plan } = compileModuleToPlan(module, target, {
      ...quiet,
      ...(format !== null && { quantize: format }),
    });
    const entry = plan.funcs.get(plan.entry)!;
    const weights = Object.values(heldBytes(plan)).reduce((sum, bytes) => sum + bytes, 0);
    const params = entry.params.reduce((sum, { type }) => sum + byteSize(type), 0);
    least = weights + params + entry.arenaBytes;
    if (least > room) continue;
    const name = format === null ? "as they are stored" : `as ${format.weights}`;
    const why = `weights ${name}: ${showBytes(least)} with caches and values, ${showBytes(room)} of ${device.name} may be used`;
    return { format, why };
  }
  const what = `needs ${showBytes(least)} with weights in int4, ${showBytes(room)} of ${device.name} may be used`;
  throw new InputError("optimizeFor", what, { hint: "Ask for a shorter context, or divide the model: ciuic plan." });
}
