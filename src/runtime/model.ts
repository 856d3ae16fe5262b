/** A loaded model: text in, text out, with the compiled program behind it open to inspection. */
import { chooseExperts, type Device, type Executable, type ExpertWish, type QuantizeOptions } from "../compile.ts";
import { InputError, invariant, UnsupportedError } from "../ir/errors.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import { groupsOf, leastExperts, moeLayers } from "../models/deepseek/pruned.ts";
import { Engine, type EngineOptions } from "./engine/engine.ts";
import { EngineGroup, type RequestEngine } from "./engine/engine-group.ts";
import type { GenerateOptions } from "./engine/generate.ts";
import type { Generation } from "./engine/generation.ts";
import type { MeshRunner } from "./mesh/mesh-runner.ts";
import type { TargetChoice } from "./probe/target-choice.ts";
import type { InputScales } from "./quality/input-scales.ts";
import { scoreTokens } from "./quality/score.ts";
import { type Verification, verifyModel } from "./quality/verify-model.ts";
import { type WeightError, weightErrors } from "./quality/weight-errors.ts";
import type { GenerationDefaults } from "./sampling/generation-defaults.ts";
import type { InterpreterRunner } from "./steps/interpreter-runner.ts";
import { ModelRunner } from "./steps/model-runner.ts";
import { type ChatPromptOptions, renderChatPrompt } from "./text/chat-prompt.ts";
import type { ChatMessage } from "./text/chat-template.ts";
import { thinkTags } from "./text/reasoning.ts";
import type { ReasoningOptions } from "./text/text-pipeline.ts";
import type { TokenText } from "./text/text-stream.ts";
import type { Tokenizer } from "./text/tokenizer.ts";
import type { Checkpoint } from "./weights/checkpoint.ts";
import type { Pruning } from "./weights/pruning-file.ts";

export interface ChatOptions extends GenerateOptions, ChatPromptOptions {}

const oneDevice = "expected a model that is compiled for one device";

export interface ModelParts {
  readonly name: string;
  readonly config: ModelConfig;
  /** Null for a folder without tokenizer.json: such a model takes token ids only. */
  readonly tokenizer: Tokenizer | null;
  /** Null under the interpreter and over a mesh. */
  readonly device: Device | null;
  readonly runner: ModelRunner | InterpreterRunner | MeshRunner;
  /** Runners of the same model with caches of their own, which requests are divided over too. */
  readonly replicas?: readonly MeshRunner[];
  /** Ends what computes where that is not the device. */
  readonly end?: () => Promise<void>;
  /** Whether inputs of layers are rounded, which makes small differences larger. */
  readonly quantized?: boolean;
  readonly checkpoint: Checkpoint;
  readonly defaults: GenerationDefaults;
  /** Why it is this device; null where the caller chose. */
  readonly choice?: TargetChoice | null;
  /** Sentences on what was changed on purpose and may change answers. */
  readonly lossy?: readonly string[];
}

/** Lives from `loadModel` to `close()`. Requests may overlap: they are computed together, each as if it were alone. */
export class Model {
  readonly name: string;
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer | null;
  readonly engine: RequestEngine;
  readonly #parts: ModelParts;

  constructor(parts: ModelParts) {
    const { name, config, tokenizer, runner } = parts;
    this.name = name;
    this.config = config;
    this.tokenizer = tokenizer;
    this.#parts = parts;
    const eosTokenIds = tokenizer !== null && tokenizer.eosIds.length > 0 ? tokenizer.eosIds : config.eos_token_id;
    const options = { text: tokenText(tokenizer), eosTokenIds };
    const { replicas = [] } = parts;
    const lanes: { readonly runner: ModelParts["runner"]; readonly alive: () => boolean }[] = [];
    for (const each of [runner, ...replicas]) {
      if (!("lanes" in each)) lanes.push({ runner: each, alive: () => true });
      else lanes.push(...each.lanes.map((lane) => ({ runner: lane, alive: () => lane.alive })));
    }
    const start = (each: ModelParts["runner"]) => (more: Pick<EngineOptions, "handOver">) =>
      new Engine(each, { ...options, ...more });
    this.engine =
      lanes.length === 1
        ? new Engine(runner, options)
        : new EngineGroup(lanes.map((lane) => ({ start: start(lane.runner), alive: lane.alive })));
  }

  /** Why this backend, and what else there was; null where the caller chose. The device may be a runner-up where the first refused the model. */
  get choice(): TargetChoice | null {
    return this.#parts.choice ?? null;
  }

  /** The compiled step for one token: its IR, kernels and plan. @throws UnsupportedError under the interpreter and over a mesh. */
  get program(): Executable {
    const { runner } = this.#parts;
    if (!(runner instanceof ModelRunner)) throw new UnsupportedError("program", oneDevice);
    return runner.compile({ tokens: 1, sequences: 1, blocks: 1, outputs: 1 }).executable;
  }

  /** Bytes held: compiled weights and caches. */
  get memory(): { readonly weights: number; readonly caches: number } {
    const { runner, replicas = [] } = this.#parts;
    const all = [runner, ...replicas];
    const sum = (name: "weightBytes" | "cacheBytes") => all.reduce((total, each) => total + each[name], 0);
    return { weights: sum("weightBytes"), caches: sum("cacheBytes") };
  }

  get runner(): ModelRunner | InterpreterRunner | MeshRunner {
    return this.#parts.runner;
  }

  /** Answers a conversation. Iterate the result for parts of text as they come. */
  chat(messages: readonly ChatMessage[], options: ChatOptions = {}): Generation {
    const { thinking = false, variables, ...generate } = options;
    const tokenizer = this.#needTokenizer("chat");
    const prompt = this.renderChat(messages, { thinking, variables });
    const startsInside = prompt.trimEnd().endsWith(thinkTags.open);
    return this.#add(tokenizer.encode(prompt), generate, hasThinkTags(tokenizer) ? { startsInside } : undefined);
  }

  /** The prompt that `chat` makes of a conversation. */
  renderChat(messages: readonly ChatMessage[], options: ChatPromptOptions = {}): string {
    return renderChatPrompt(this.#needTokenizer("chat"), messages, options, this.name);
  }

  /** Continues a text, or token ids as they are. A text gets the tokens around it that the tokenizer asks for. */
  generate(prompt: string | ArrayLike<number>, options: GenerateOptions = {}): Generation {
    if (typeof prompt !== "string") return this.#add(prompt, options);
    return this.#add(this.#needTokenizer("generate").encode(prompt, { addSpecialTokens: true }), options);
  }

  /** Logits [ids.length, vocab_size] of every position, in a cache apart from the requests'. */
  async logits(ids: ArrayLike<number>): Promise<Float32Array> {
    return scoreTokens(this.#parts.runner.single(), ids);
  }

  /** What computes: the backend, its instruction set and threads. Null under the interpreter and over a mesh. */
  get device(): Device | null {
    return this.#parts.device;
  }

  /** What was changed on purpose and may change answers: formats of weights, experts left out. Empty: nothing. */
  get lossy(): readonly string[] {
    return this.#parts.lossy ?? [];
  }

  /** What quantisation did to each weight; empty where none was asked for. */
  async weightErrors(): Promise<WeightError[]> {
    const { runner } = this.#parts;
    if (!(runner instanceof ModelRunner)) return [];
    return weightErrors(this.program, (expr, layer) => runner.evaluateWeight(expr, layer));
  }

  /**
   * The input scales that `loadModel` needs for activations `int8-static`, measured with this model as it is (load it
   * unquantised). Without `sequences` of token ids, it writes its own sample texts: no text has to come with a model.
   */
  async calibrate(quantize: QuantizeOptions, sequences?: readonly ArrayLike<number>[]): Promise<InputScales> {
    const { runner } = this.#parts;
    if (!(runner instanceof ModelRunner)) throw new UnsupportedError("calibrate", oneDevice);
    return runner.calibrate(quantize, sequences ?? (await this.#sampleTexts()));
  }

  /**
   * Whether this device computes this model rightly: its kernels against their definition, and prompts against single
   * tokens. What a GPU's kernels are wrong with is switched off. No request may be running.
   */
  async verify(): Promise<Verification> {
    const { runner, device, quantized } = this.#parts;
    if (!(runner instanceof ModelRunner) || device === null) throw new UnsupportedError("verify", oneDevice);
    return verifyModel(runner, device, quantized ?? false);
  }

  /**
   * The routed experts to keep when the model is loaded again with `prune`: those that the gates gave most weight on the
   * sequences, or on sample texts that the model writes. Load it as it is stored.
   */
  async chooseExperts(wish: ExpertWish, sequences?: readonly ArrayLike<number>[]): Promise<Pruning> {
    const { runner, config } = this.#parts;
    if (!(runner instanceof ModelRunner)) throw new UnsupportedError("chooseExperts", oneDevice);
    const use = await runner.measureExperts(sequences ?? (await this.#sampleTexts()));
    const [moe] = moeLayers(config).values();
    invariant(moe !== undefined, () => "experts were measured, and there are none");
    return { ...chooseExperts(use, wish, { groups: groupsOf(moe), least: leastExperts(moe) }), tokens: use.tokens };
  }

  /** Eight texts of at most 256 tokens that the model makes up. */
  async #sampleTexts(): Promise<number[][]> {
    const begin = this.tokenizer?.bosId ?? 0;
    const maxTokens = Math.min(255, this.#parts.runner.sizes.maxContext - 1);
    const texts = Array.from({ length: 8 }, async (_, i) => {
      const options = { maxTokens, temperature: 1, topP: 1, seed: i + 1, ignoreEos: true };
      const { result } = await this.generate([begin], options).collect();
      return [begin, ...result.tokens];
    });
    return Promise.all(texts);
  }

  /** Ends all requests, then the device's threads, and closes the files. */
  async close(): Promise<void> {
    await this.engine.close();
    await this.#parts.device?.close();
    await this.#parts.end?.();
    await this.#parts.checkpoint.close();
  }

  #add(prompt: ArrayLike<number>, options: GenerateOptions, reasoning?: ReasoningOptions): Generation {
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    const request = { prompt, options: { ...this.#parts.defaults, ...given } };
    return this.engine.add(reasoning === undefined ? request : { ...request, reasoning });
  }

  #needTokenizer(what: string): Tokenizer {
    if (this.tokenizer !== null) return this.tokenizer;
    throw new InputError(`${this.name} tokenizer.json`, `${what} needs a tokenizer, and the folder has none`, {
      hint: "Pass token ids to generate().",
    });
  }
}

function hasThinkTags(tokenizer: Tokenizer): boolean {
  return tokenizer.tokenId(thinkTags.open) !== undefined;
}

/** What the engine shows of tokens. The tags around reasoning must reach the splitter even where they are special. */
function tokenText(tokenizer: Tokenizer | null): TokenText {
  const tags = [thinkTags.open, thinkTags.close].map((tag) => tokenizer?.tokenId(tag));
  return {
    tokenBytes: (id) => tokenizer?.tokenBytes(id) ?? new Uint8Array(),
    isSpecial: (id) => (tokenizer?.isSpecial(id) ?? true) && !tags.includes(id),
  };
}
