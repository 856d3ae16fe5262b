/**
 * The thread that runs TensorFlow graphs: tfjs-node computes before it returns, so it would stop everything else. It
 * imports the package itself, so that the engine of the calling thread is not touched.
 */
import { CompilerError, InternalError, invariant } from "../../ir/errors.ts";
import type { Repeat } from "./graph-host.ts";
import type { FromGraphThread, GraphReplies, GraphRequest, GraphThreadStart, ToGraphThread } from "./graph-messages.ts";
import { importFrom } from "./package-folder.ts";
import { checkGpu, importTensorFlow } from "./packages.ts";
import { type SavedModel, servingTag } from "./saved-model.ts";
import type { Tf, TfTensor } from "./tf.ts";

/** What is used of the backend of tfjs-node, which its `tf.node.loadSavedModel` parses the whole file for, once a signature. */
interface TfNodeBackend {
  readonly loadSavedModelMetaGraph: (folder: string, tags: string) => number;
  readonly runSavedModel: (
    session: number,
    inputs: readonly TfTensor[],
    infos: readonly { readonly name: string }[],
    outputs: readonly string[],
  ) => readonly TfTensor[];
  readonly deleteSavedModel: (session: number) => void;
}

type Signatures = SavedModel["signatures"];

const dtypes = { float: "float32", int32: "int32", bool: "bool" } as const;

class GraphServer {
  readonly #tf: Tf;
  readonly #backend: TfNodeBackend;
  readonly #folder: string;
  readonly #sessions = new Map<number, Signatures>();

  constructor(tf: Tf, backend: TfNodeBackend) {
    this.#tf = tf;
    this.#backend = backend;
    const { mkdtempSync } = process.getBuiltinModule("node:fs");
    const { join } = process.getBuiltinModule("node:path");
    this.#folder = mkdtempSync(join(process.getBuiltinModule("node:os").tmpdir(), "ciuic-tensorflow-"));
  }

  /** The file is read while the session is made and needed no longer. */
  open(model: Uint8Array, signatures: Signatures): number {
    const { rmSync, writeFileSync } = process.getBuiltinModule("node:fs");
    const file = process.getBuiltinModule("node:path").join(this.#folder, "saved_model.pb");
    try {
      writeFileSync(file, model);
      const session = this.#backend.loadSavedModelMetaGraph(this.#folder, servingTag);
      this.#sessions.set(session, signatures);
      return session;
    } finally {
      rmSync(file, { force: true });
    }
  }

  run({ session, signature, inputs, repeat }: Extract<GraphRequest, { ask: "run" }>): GraphReplies["run"] {
    let tensors: Record<string, TfTensor> = Object.fromEntries(
      Object.entries(inputs).map(([name, { type, shape, data }]) => [
        name,
        this.#tf.tensor(data, [...shape], dtypes[type]),
      ]),
    );
    let outputs: Readonly<Record<string, TfTensor>> = {};
    try {
      for (let i = 0; i < repeat.times; i++) {
        if (i > 0) tensors = replaced(tensors, outputs, repeat.feedback);
        outputs = this.#predict(session, signature, tensors);
      }
      return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.dataSync()]));
    } finally {
      disposeAll(tensors);
      disposeAll(outputs);
    }
  }

  move({ from, save, to, restore, names }: Extract<GraphRequest, { ask: "move" }>): void {
    const saved = this.#predict(from, save, {});
    try {
      disposeAll(this.#predict(to, restore, Object.fromEntries(names.map((name) => [name, saved[name]!]))));
    } finally {
      disposeAll(saved);
    }
  }

  drop(session: number): void {
    this.#signatures(session);
    this.#sessions.delete(session);
    this.#backend.deleteSavedModel(session);
  }

  close(): void {
    for (const session of [...this.#sessions.keys()]) this.drop(session);
    process.getBuiltinModule("node:fs").rmSync(this.#folder, { recursive: true, force: true });
  }

  #predict(
    session: number,
    name: string,
    inputs: Readonly<Record<string, TfTensor>>,
  ): Readonly<Record<string, TfTensor>> {
    const signature = this.#signatures(session)[name];
    if (signature === undefined) throw new InternalError("TensorFlow session", `there is no signature ${name}`);
    const wanted = Object.entries(signature.outputs);
    const tensors = this.#backend.runSavedModel(
      session,
      Object.keys(signature.inputs).map((each) => inputs[each]!),
      Object.values(signature.inputs),
      wanted.map(([, info]) => info.name),
    );
    return Object.fromEntries(wanted.map(([each], i) => [each, tensors[i]!]));
  }

  #signatures(session: number): Signatures {
    const signatures = this.#sessions.get(session);
    if (signatures === undefined) throw new InternalError("TensorFlow session", `there is no session ${session}`);
    return signatures;
  }
}

/** The inputs of the next time; those that are replaced are disposed of, as are outputs that replace none. */
function replaced(
  inputs: Readonly<Record<string, TfTensor>>,
  outputs: Readonly<Record<string, TfTensor>>,
  feedback: Repeat["feedback"],
): Record<string, TfTensor> {
  const next = { ...inputs };
  const rest = { ...outputs };
  for (const { output, input } of feedback) {
    next[input]?.dispose();
    next[input] = outputs[output]!;
    delete rest[output];
  }
  disposeAll(rest);
  return next;
}

function disposeAll(tensors: Readonly<Record<string, TfTensor>>): void {
  for (const tensor of Object.values(tensors)) if (!tensor.isDisposed) tensor.dispose();
}

/**
 * TensorFlow's C interface takes these from the environment alone, when it starts. Ops run one after another: a step is a
 * chain, and handing its small ops to other threads takes longer than they do.
 */
function setEnvironment(threads: number): void {
  const wanted = { TF_NUM_INTEROP_THREADS: "1", TF_NUM_INTRAOP_THREADS: String(threads), TF_CPP_MIN_LOG_LEVEL: "2" };
  for (const [name, value] of Object.entries(wanted)) process.env[name] ??= value;
}

/**
 * When a thread ends Node unloads its addons, and TensorFlow's library with them, whose functions the process still calls
 * when it ends. dlopen(3), RTLD_NODELETE: "Do not unload the shared object during dlclose()". Of the library alone: an addon
 * that stays could not register itself again.
 */
function keepLibrary(): void {
  if (process.platform !== "linux") return;
  const { dirname, join } = process.getBuiltinModule("node:path");
  const { RTLD_LAZY } = process.getBuiltinModule("node:os").constants.dlopen;
  const open = process.dlopen;
  process.dlopen = (module, file, flags = RTLD_LAZY) => {
    open(module, file, flags);
    if (!file.endsWith("tfjs_binding.node")) return;
    try {
      open({ exports: {} }, join(dirname(file), "../../deps/lib/libtensorflow.so"), RTLD_LAZY | 0x1000);
    } catch {
      // Always: it is no addon, which Node says after it was opened.
    }
  };
}

async function start({ kind, packageFolder, threads }: GraphThreadStart): Promise<GraphServer> {
  setEnvironment(threads);
  keepLibrary();
  const { tf } = await importTensorFlow(kind, packageFolder === null ? undefined : importFrom(packageFolder));
  await tf.setBackend("tensorflow"); // the thread has no other
  const backend = tf.engine().registry.tensorflow;
  invariant(backend !== undefined, () => "the package registers its backend");
  if (kind === "tensorflow-gpu") checkGpu(backend);
  return new GraphServer(tf, backend as TfNodeBackend); // of the package's version
}

async function answer(server: Promise<GraphServer>, request: GraphRequest): Promise<GraphReplies[keyof GraphReplies]> {
  const serving = await server;
  switch (request.ask) {
    case "start":
      return "ready";
    case "open":
      return serving.open(request.model, request.signatures);
    case "run":
      return serving.run(request);
    case "move":
      serving.move(request);
      return null;
    case "drop":
      serving.drop(request.session);
      return null;
    case "close":
      serving.close();
      return null;
  }
}

function failureOf(error: unknown): Extract<FromGraphThread, { failed: object }>["failed"] {
  if (!(error instanceof CompilerError)) {
    return { where: null, what: error instanceof Error ? error.message : String(error), hint: null };
  }
  const { where, hint = null, message } = error;
  const what = message.slice(`${where}: `.length);
  // The constructor adds the hint.
  return { where, what: hint === null ? what : what.slice(0, -`\n${hint}`.length), hint };
}

const { parentPort, workerData } = process.getBuiltinModule("node:worker_threads");
if (parentPort !== null) {
  const port = parentPort;
  const server = start(workerData as GraphThreadStart); // what the thread is started with
  // A failure is told with the first answer.
  server.catch(() => {});
  let turn: Promise<void> = Promise.resolve();
  port.on("message", (message: ToGraphThread) => {
    turn = turn.then(async () => {
      const { id } = message;
      try {
        port.postMessage({ id, reply: await answer(server, message) } satisfies FromGraphThread);
      } catch (error) {
        port.postMessage({ id, failed: failureOf(error) } satisfies FromGraphThread);
      }
      if (message.ask === "close") port.close();
    });
  });
}
