/** The backends of TensorFlow: whole steps as graphs, on tfjs-node (the processor) or tfjs-node-gpu (CUDA). */
import { UnsupportedError } from "../../ir/errors.ts";
import { graphNarrowWeights, type Target, tensorTargetOf } from "../../ir/target.ts";
import type { Backend } from "../backend.ts";
import { emitGraph, openGraphDevice } from "./graph-device.ts";
import type { GraphHost } from "./graph-host.ts";
import { startGraphThread } from "./graph-thread.ts";
import { tfVersion } from "./packages.ts";

/** What `prepare` gives to `open`. */
class Prepared {
  readonly host: GraphHost;

  constructor(host: GraphHost) {
    this.host = host;
  }
}

const summaries = {
  tensorflow: "TensorFlow on the CPU",
  "tensorflow-gpu": "TensorFlow on the GPU",
} as const;

/** TensorFlow's products of a row and a matrix read the matrix row by row. */
export function graphTargetOf(name: string): Target {
  return { ...tensorTargetOf(name), inputMajor: true, narrowWeights: graphNarrowWeights };
}

export function graphBackend(name: keyof typeof summaries): Backend {
  return {
    target: graphTargetOf(name),
    emit: emitGraph,
    prepare: async (options) => {
      const { packageFolder = null, threads = 1 } = options;
      const thread = await startGraphThread({ kind: name, packageFolder, threads });
      const summary = `TensorFlow.js ${tfVersion}, ${summaries[name]}, a graph to a step`;
      return { ...options, prepared: new Prepared({ ...thread, summary, moves: name === "tensorflow" }) };
    },
    open: ({ prepared } = {}) => {
      if (prepared instanceof Prepared) return openGraphDevice(graphTargetOf(name), prepared.host);
      throw new UnsupportedError(name, "TensorFlow.js is imported when asked for, which takes waiting", {
        hint: `Use: const device = await prepareDevice(${JSON.stringify(name)}); compile(module, device).`,
      });
    },
  };
}
