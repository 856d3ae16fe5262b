/** Figures of backends that run and were not measured: of an ordinary machine, to go on with. */
import type { BackendProbe, Figures } from "./backend-probe.ts";

const G = 1e9;
const us = 1e-6;

/** What the runtime does beside any device. */
const runtime = { token: 20 * us, logit: 0.002 * us } as const;

const one: Figures = {
  ...runtime,
  reading: 12 * G,
  f32Vector: 20 * G,
  int8Vector: 30 * G,
  f32Matrix: 25 * G,
  int8Matrix: 45 * G,
  launch: 1 * us,
  launchMatrix: 20 * us,
  step: 5 * us,
};

/** Memory is shared by threads, arithmetic is not. */
function onThreads(threads: number): Figures {
  if (threads === 1) return one;
  const times = 0.9 * threads;
  return {
    ...runtime,
    reading: one.reading * Math.min(times, 3),
    f32Vector: one.f32Vector * times,
    int8Vector: one.int8Vector * times,
    f32Matrix: one.f32Matrix * times,
    int8Matrix: one.int8Matrix * times,
    launch: 8 * us,
    launchMatrix: 20 * us,
    step: 30 * us,
  };
}

const javascript: Figures = {
  ...runtime,
  reading: 5 * G,
  f32Vector: 2.5 * G,
  int8Vector: 0.8 * G,
  f32Matrix: 2.5 * G,
  int8Matrix: 1.3 * G,
  launch: 2 * us,
  launchMatrix: 100 * us,
  step: 30 * us,
};

/** An op that an engine runs by itself. */
const opSeconds = 40 * us;

const gpu: Figures = {
  ...runtime,
  reading: 150 * G,
  f32Vector: 1000 * G,
  int8Vector: 2000 * G,
  f32Matrix: 1000 * G,
  int8Matrix: 2000 * G,
  launch: 15 * us,
  launchMatrix: 30 * us,
  step: 900 * us,
};

/** A processor that plays GPU. */
const softwareGpu: Figures = { ...javascript, launch: 50 * us, launchMatrix: 500 * us, step: 500 * us };

export function assumedFigures({ backend, threads, software }: BackendProbe): Figures {
  if (software) return softwareGpu;
  if (backend === "wasm") return onThreads(threads ?? 1);
  const rates = /gpu/.test(backend) ? gpu : /^tensorflow|wasm/.test(backend) ? one : javascript;
  const opByOp = /-ops$|^tfjs-/.test(backend);
  return opByOp
    ? { ...rates, launch: Math.max(rates.launch, opSeconds), launchMatrix: Math.max(rates.launchMatrix, opSeconds) }
    : rates;
}
