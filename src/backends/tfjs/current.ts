/**
 * TensorFlow.js runs ops on one current backend of the process. Ours is made current for stretches that do not wait, so
 * that nobody else's op runs meanwhile, and what was current before is current again afterwards.
 */
import { InternalError } from "../../ir/errors.ts";
import type { Tf } from "./tf.ts";

/** Runs `work`, which must not wait, with the backend of that name. */
export function withBackend<R>(tf: Tf, name: string, work: () => R): R {
  const engine = tf.engine();
  const { backendName, backendInstance } = engine;
  const instance = engine.registry[name];
  if (instance === undefined) throw new InternalError(`TensorFlow.js ${name}`, "the backend is not initialised");
  // `setBackend` would set up all kernels again.
  engine.backendName = name;
  engine.backendInstance = instance;
  try {
    return work();
  } finally {
    engine.backendName = backendName;
    engine.backendInstance = backendInstance;
  }
}

/** Makes a registered backend ready without making it current for longer than its kernels take to be set up. */
export async function initializeBackend(tf: Tf, name: string): Promise<void> {
  const engine = tf.engine();
  if (engine.registry[name] === undefined) {
    const factory = tf.findBackendFactory(name);
    if (factory === null) throw new InternalError(`TensorFlow.js ${name}`, "the backend is not registered");
    const made = await factory();
    engine.registry[name] ??= made;
  }
  // Sets kernels up before it first waits, as the backend is there.
  let setUp: Promise<boolean> | undefined;
  withBackend(tf, name, () => {
    setUp = tf.setBackend(name);
  });
  await setUp;
}
