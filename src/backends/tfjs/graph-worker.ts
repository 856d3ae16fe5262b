/**
 * The thread that runs TensorFlow graphs: tfjs-node computes before it returns, so it would stop everything else. It
 * imports the package itself, so that the engine of the calling thread is not touched.
 */
import { CompilerError, InternalError } from "../../ir/errors.ts";
import type { HostTensor } from "./graph-bits.ts";
import type { FromGraphThread, GraphReplies, GraphRequest, GraphThreadStart, ToGraphThread } from "./graph-messages.ts";
import { importFrom } from "./package-folder.ts";
import { checkGpu, importTensorFlow } from "./packages.ts";
import { servingTag } from "./saved-model.ts";
import type { Tf, TfTensor } from "./tf.ts";

/** A loaded signature of tfjs-node (`TFSavedModel`). */
interface TfSavedModel {
  readonly predict: (inputs: Readonly<Record<string, TfTensor>>) => Readonly<Record<string, TfTensor>>;
  readonly dispose: () => void;
}

/** What is used of tfjs-node beside TensorFlow.js's own interface. */
interface TfNode extends Tf {
  readonly node: {
    readonly loadSavedModel: (folder: string, tags: readonly string[], signature: string) => Promise<TfSavedModel>;
  };
}

const dtypes = { float: "float32", int32: "int32", bool: "bool" } as const;

class GraphServer {
  readonly #tf: TfNode;
  readonly #folder: string;
  readonly #sessions = new Map<number, ReadonlyMap<string, TfSavedModel>>();
  #opened = 0;

  constructor(tf: TfNode) {
    this.#tf = tf;
    const { mkdtempSync } = process.getBuiltinModule("node:fs");
    const { join } = process.getBuiltinModule("node:path");
    this.#folder = mkdtempSync(join(process.getBuiltinModule("node:os").tmpdir(), "ciuic-tensorflow-"));
  }

  /** The file is read while the session is made and needed no longer. */
  async open(model: Uint8Array, signatures: readonly string[]): Promise<number> {
    const { mkdirSync, rmSync, writeFileSync } = process.getBuiltinModule("node:fs");
    const { join } = process.getBuiltinModule("node:path");
    const id = ++this.#opened;
    const folder = join(this.#folder, String(id));
    mkdirSync(folder);
    writeFileSync(join(folder, "saved_model.pb"), model);
    const loaded = new Map<string, TfSavedModel>();
    try {
      for (const name of signatures) loaded.set(name, await this.#tf.node.loadSavedModel(folder, [servingTag], name));
    } finally {
      rmSync(folder, { recursive: true });
    }
    this.#sessions.set(id, loaded);
    return id;
  }

  run(session: number, signature: string, inputs: Readonly<Record<string, HostTensor>>): GraphReplies["run"] {
    const tensors = Object.fromEntries(
      Object.entries(inputs).map(([name, { type, shape, data }]) => [
        name,
        this.#tf.tensor(data, [...shape], dtypes[type]),
      ]),
    );
    const outputs = this.#predict(session, signature, tensors);
    return Object.fromEntries(
      Object.entries(outputs).map(([name, tensor]) => {
        const data = tensor.dataSync();
        tensor.dispose();
        return [name, data];
      }),
    );
  }

  move({ from, save, to, restore, names }: Extract<GraphRequest, { ask: "move" }>): void {
    const saved = this.#predict(from, save, {});
    for (const [name, tensor] of Object.entries(saved)) if (!names.includes(name)) tensor.dispose();
    const done = this.#predict(to, restore, Object.fromEntries(names.map((name) => [name, saved[name]!])));
    for (const tensor of Object.values(done)) tensor.dispose();
  }

  drop(session: number): void {
    for (const model of this.#models(session).values()) model.dispose();
    this.#sessions.delete(session);
  }

  close(): void {
    for (const session of [...this.#sessions.keys()]) this.drop(session);
    process.getBuiltinModule("node:fs").rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Disposes of the inputs. */
  #predict(
    session: number,
    signature: string,
    inputs: Readonly<Record<string, TfTensor>>,
  ): Readonly<Record<string, TfTensor>> {
    const model = this.#models(session).get(signature);
    if (model === undefined) throw new InternalError("TensorFlow session", `there is no signature ${signature}`);
    try {
      return model.predict(inputs);
    } finally {
      for (const tensor of Object.values(inputs)) tensor.dispose();
    }
  }

  #models(session: number): ReadonlyMap<string, TfSavedModel> {
    const models = this.#sessions.get(session);
    if (models === undefined) throw new InternalError("TensorFlow session", `there is no session ${session}`);
    return models;
  }
}

async function start({ kind, packageFolder }: GraphThreadStart): Promise<GraphServer> {
  const { tf } = await importTensorFlow(kind, packageFolder === null ? undefined : importFrom(packageFolder));
  const backend = tf.engine().registry.tensorflow;
  if (kind === "tensorflow-gpu" && backend !== undefined) checkGpu(backend);
  await tf.setBackend("tensorflow"); // the thread has no other
  return new GraphServer(tf as TfNode); // of tfjs-node
}

async function answer(server: Promise<GraphServer>, request: GraphRequest): Promise<GraphReplies[keyof GraphReplies]> {
  const serving = await server;
  switch (request.ask) {
    case "start":
      return "ready";
    case "open":
      return serving.open(request.model, request.signatures);
    case "run":
      return serving.run(request.session, request.signature, request.inputs);
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
