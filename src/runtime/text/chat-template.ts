/**
 * Chat messages into the text a model was trained on, by the Jinja template in its folder. The template is a stranger's
 * program: it runs on @huggingface/jinja's interpreter, which gives it no access to JavaScript objects, under limits on
 * length, steps, nesting and memory. In the worst case rendering takes a few seconds and 300 MB.
 */
import { CompilerError, InputError, showValue } from "../../ir/errors.ts";
import { BoundedInterpreter, type TemplateLimits } from "./bounded-interpreter.ts";
import { Environment, parse, tokenize } from "./jinja.ts";

/** Data that a template can see. */
export type TemplateValue =
  | null
  | undefined
  | boolean
  | number
  | string
  | readonly TemplateValue[]
  | { readonly [key: string]: TemplateValue };

export interface ChatMessage {
  readonly role: string;
  readonly content?: TemplateValue;
  readonly [field: string]: TemplateValue;
}

export interface RenderOptions {
  /** End with the beginning of an answer. Default: no. */
  readonly addGenerationPrompt?: boolean;
  /**
   * Ask for reasoning before the answer, or for none, where the template knows the difference: the variables `thinking`
   * (DeepSeek) and `enable_thinking` (Qwen). Default: neither is set, and the template decides.
   */
  readonly thinking?: boolean;
  /** The texts of these tokens. Default: empty. */
  readonly bosToken?: string;
  readonly eosToken?: string;
  /** Further variables, such as `tools`. They cannot replace the ones above. */
  readonly variables?: { readonly [name: string]: TemplateValue };
}

/** The longest template of the families has 8 KB. */
const maxSource = 131_072;
/** The library looks at a run of white space once for each of its characters. */
const maxSpaceRun = 1000;
const maxRange = 100_000;
const limits: TemplateLimits = { steps: 2_000_000, depth: 128, size: 4_000_000, work: 64_000_000 };

/**
 * @throws InputError when the template is malformed, asks for too much, or refuses the messages with `raise_exception`
 */
export function renderChat(template: string, messages: readonly ChatMessage[], options: RenderOptions = {}): string {
  if (template.length > maxSource) {
    throw new InputError("chat template", `${template.length} characters: expected at most ${maxSource}`);
  }
  if (new RegExp(`\\s{${maxSpaceRun + 1}}`).test(template)) {
    throw new InputError("chat template", `more than ${maxSpaceRun} characters of white space in a row`);
  }
  try {
    // The settings Hugging Face renders with.
    const program = parse(tokenize(template, { trim_blocks: true, lstrip_blocks: true }));
    const environment = environmentFor(messages, options);
    const text = new BoundedInterpreter(environment, limits, template.length).run(program).value;
    return String(text);
  } catch (error) {
    if (error instanceof CompilerError) throw error;
    // The library throws plain errors for mistakes in templates, and the engine a RangeError for deep nesting in the syntax.
    const reason =
      error instanceof RangeError ? "nested too deep" : String(error instanceof Error ? error.message : error);
    throw new InputError("chat template", reason, { cause: error });
  }
}

function environmentFor(messages: readonly ChatMessage[], options: RenderOptions): Environment {
  const environment = new Environment();
  const { thinking, variables = {} } = options;
  const given: ReadonlyMap<string, TemplateValue> = new Map(Object.entries(variables));
  const set = (name: string, value: unknown): void => {
    if (given.has(name))
      throw new InputError(`variable ${showValue(name)}`, "a template variable that is not yours to set");
    environment.set(name, value);
  };
  set("messages", messages);
  set("add_generation_prompt", options.addGenerationPrompt ?? false);
  set("bos_token", options.bosToken ?? "");
  set("eos_token", options.eosToken ?? "");
  if (thinking !== undefined) {
    set("thinking", thinking);
    set("enable_thinking", thinking);
  }
  for (const [name, value] of Object.entries({ true: true, false: false, none: null })) {
    set(name, value);
    set(`${name.charAt(0).toUpperCase()}${name.slice(1)}`, value);
  }
  set("range", boundedRange);
  set("raise_exception", (message: unknown) => {
    throw new InputError("chat template", `refuses these messages: ${String(message).slice(0, 1000)}`);
  });
  if (given.has("namespace"))
    throw new InputError('variable "namespace"', "a template variable that is not yours to set");
  for (const [name, value] of given) environment.set(name, value);
  // Hugging Face passes none where there are no tools or documents.
  for (const name of ["tools", "documents"]) if (!given.has(name)) environment.set(name, null);
  return environment;
}

/** Python's `range`, of at most `maxRange` numbers. */
function boundedRange(first: unknown, last?: unknown, by: unknown = 1): number[] {
  const [start, stop] = last === undefined ? [0, first] : [first, last];
  if (!isInteger(start) || !isInteger(stop) || !isInteger(by) || by === 0) {
    throw new InputError("chat template", "range expects whole numbers, and a step other than 0");
  }
  const length = Math.max(0, Math.ceil((stop - start) / by));
  if (length > maxRange)
    throw new InputError("chat template", `a range of ${length} numbers: expected at most ${maxRange}`);
  return Array.from({ length }, (_, i) => start + i * by);
}

function isInteger(value: unknown): value is number {
  return Number.isSafeInteger(value);
}
