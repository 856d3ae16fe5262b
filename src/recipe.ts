/**
 * A *recipe*: a model that is not compiled yet, and what is to be done with it. `quantize`, `prune`, `fuse` and `optimizeFor`
 * each add one choice; nothing happens until `compile` or `loadModel` gets the recipe. What a model is does not matter here:
 * a `Module`, or the folder of a checkpoint. Without the model, each function gives a step for `{ passes: [...] }`.
 */
import { allBackendNames } from "./compile.ts";
import { didYouMean, InputError, showValue } from "./ir/errors.ts";
import { checkPruneOptions, type PruneOptions } from "./passes/prune/policy.ts";
import { checkQuantizeOptions, type QuantizeOptions } from "./passes/quantize/policy.ts";
import { type DeviceSpec, devices, findDevice } from "./plan/hardware.ts";

export interface Recipe<Source = unknown> {
  readonly source: Source;
  readonly choices: Choices;
}

/** Of two choices of a kind the later one counts. */
export interface Choices {
  readonly quantize?: QuantizeOptions;
  readonly prune?: PruneOptions;
  readonly fuse?: boolean;
  readonly hardware?: Hardware;
}

/** What to optimise for: a backend, and where the device is known, what fits its memory. */
export interface Hardware {
  readonly backend: string;
  readonly device: DeviceSpec | null;
  /** How weights are to be held, where that was chosen with the backend. */
  readonly precision?: string;
}

/** What the functions below give without a model. */
export type RecipeStep = <Source>(model: Source | Recipe<Source>) => Recipe<Source>;

const recipes = new WeakSet<object>();

function makeRecipe<Source>(source: Source, choices: Choices): Recipe<Source> {
  const recipe = Object.freeze({ source, choices: Object.freeze(choices) });
  recipes.add(recipe);
  return recipe;
}

export function isRecipe<Source>(model: Source | Recipe<Source>): model is Recipe<Source> {
  return typeof model === "object" && model !== null && recipes.has(model);
}

/** The model with the choices of each of `passes`, in this order. */
export function recipeOf<Source>(model: Source | Recipe<Source>, passes: readonly RecipeStep[] = []): Recipe<Source> {
  const start = isRecipe(model) ? model : makeRecipe(model, {});
  const list: unknown = passes; // as programs that no compiler has checked may have it
  if (!Array.isArray(list) || list.some((step) => typeof step !== "function")) {
    throw new InputError("passes", "expected a list of steps", {
      hint: 'Steps are quantize("int8"), prune({ .. }), fuse() and optimizeFor("wasm"), each without a model.',
    });
  }
  return passes.reduce((recipe, step) => step(recipe), start);
}

function choosing(choice: Choices): RecipeStep {
  return (model) => {
    const { source, choices } = recipeOf(model);
    return makeRecipe(source, { ...choices, ...choice });
  };
}

/** "int4", "int8", "int4-affine", with layer inputs rounded too "int4+int8", or all options. */
export type QuantizeWish = string | QuantizeOptions;

/** Weights, and with `+` layer inputs, in fewer bits. */
export function quantize(how: QuantizeWish): RecipeStep;
export function quantize<Source>(model: Source | Recipe<Source>, how: QuantizeWish): Recipe<Source>;
export function quantize<Source>(...args: [QuantizeWish] | [Source | Recipe<Source>, QuantizeWish]) {
  return given("quantize", args, (how) => choosing({ quantize: quantizeOptionsOf(how) }));
}

/** Without the experts that are left out; see `Model.chooseExperts`. */
export function prune(what: PruneOptions): RecipeStep;
export function prune<Source>(model: Source | Recipe<Source>, what: PruneOptions): Recipe<Source>;
export function prune<Source>(...args: [PruneOptions] | [Source | Recipe<Source>, PruneOptions]) {
  return given("prune", args, (what) => {
    checkPruneOptions(what);
    return choosing({ prune: what });
  });
}

/** Fuses ops into kernels and kernels into launches, which is done unless `optimize` is false; `fuse(model, false)` does not. */
export function fuse(on?: boolean): RecipeStep;
export function fuse<Source>(model: Source | Recipe<Source>, on?: boolean): Recipe<Source>;
export function fuse<Source>(model?: Source | Recipe<Source> | boolean, on = true) {
  const isModel = typeof model === "string" || (typeof model === "object" && model !== null);
  if (typeof on !== "boolean" || !(isModel || model === undefined || typeof model === "boolean")) {
    throw new InputError("fuse", `expected a model, true or false, got ${showValue(isModel ? on : model)}`);
  }
  if (model === undefined || model === true || model === false) return choosing({ fuse: model !== false });
  return choosing({ fuse: on })(model);
}

/** What `chooseTarget` gives: a backend for a model, and how its weights are to be held. */
export interface ChosenHardware {
  readonly backend: string;
  readonly precision: string;
}

/** A backend ("wasm"), a device by name ("h100"), a device's figures, or what `chooseTarget` chose by what was measured. */
export type HardwareWish = string | DeviceSpec | ChosenHardware;

/**
 * For a backend, or for a device: then weights become int8, or int4, if they do not fit its memory otherwise and nothing
 * else was said about them.
 */
export function optimizeFor(hardware: HardwareWish): RecipeStep;
export function optimizeFor<Source>(model: Source | Recipe<Source>, hardware: HardwareWish): Recipe<Source>;
export function optimizeFor<Source>(...args: [HardwareWish] | [Source | Recipe<Source>, HardwareWish]) {
  return given("optimizeFor", args, (hardware) => choosing({ hardware: hardwareOf(hardware) }));
}

/** With one argument the step, with two the step applied to the first. */
function given<Source, Wish>(
  name: string,
  args: [Wish] | [Source | Recipe<Source>, Wish],
  step: (wish: Wish) => RecipeStep,
): RecipeStep | Recipe<Source> {
  const wish: unknown = args.at(-1); // as programs that no compiler has checked may have it
  if (typeof wish === "object" && wish !== null && ("funcs" in wish || recipes.has(wish))) {
    throw new InputError(name, "expected what to do with the model, got the model alone");
  }
  return args.length === 1 ? step(args[0]) : step(args[1])(args[0]);
}

/** @throws InputError for a format that does not exist */
export function quantizeOptionsOf(how: QuantizeWish): QuantizeOptions {
  if (typeof how !== "string") {
    checkQuantizeOptions(how);
    return how;
  }
  const [weights = "", activations, ...rest] = how.split("+");
  if (rest.length > 0) throw new InputError("quantize", `expected WEIGHTS or WEIGHTS+INPUTS, got ${how}`);
  const options = { weights, ...(activations !== undefined && { activations }) };
  checkQuantizeOptions(options as QuantizeOptions); // checks what the cast claims
  return options as QuantizeOptions;
}

/** @throws InputError for a name that is neither a backend's nor a device's, and for what is no device */
function hardwareOf(wish: HardwareWish): Hardware {
  if (typeof wish === "string") return hardwareCalled(wish);
  if (typeof wish !== "object" || wish === null || !("backend" in wish || "memory" in wish)) {
    throw new InputError(
      "optimizeFor",
      `expected the name of a backend or device, or a device, got ${showValue(wish)}`,
    );
  }
  if ("backend" in wish) return { ...hardwareCalled(wish.backend), precision: wish.precision };
  return { backend: backendOf(wish), device: wish };
}

function hardwareCalled(name: string): Hardware {
  if (allBackendNames.some((each) => each === name)) return { backend: name, device: null };
  if (Object.hasOwn(devices, name)) return { backend: backendOf(findDevice(name)), device: findDevice(name) };
  const names = [...allBackendNames, ...Object.keys(devices)];
  const hint = didYouMean(name, names) ?? `Backends and devices: ${names.join(", ")}.`;
  throw new InputError("optimizeFor", `there is no backend or device ${showValue(name)}`, { hint });
}

function backendOf({ processor = false }: DeviceSpec): string {
  return processor ? "wasm" : "webgpu";
}
