/** What keeps a token from being faster: memory, arithmetic and launches, each by the figures that were measured of this machine. */
import type { ExpectedSpeed } from "../../plan/expected-speed.ts";
import { precisionOf } from "../../plan/model-memory.ts";
import type { Model } from "../model.ts";
import type { BackendProbe } from "../probe/backend-probe.ts";
import { chooseTarget } from "../probe/choose-target.ts";
import { measureSpeed, type Speed } from "./speed.ts";

export interface Limits {
  /** What a token reads, and how fast this device reads it. */
  readonly speed: Speed;
  /** What is expected by the probe's figures; null where this backend was not probed. */
  readonly expected: ExpectedSpeed | null;
  /** Shares of a token's measured time that each would take alone; null where nobody measured. */
  readonly shares: {
    readonly memory: number | null;
    readonly arithmetic: number | null;
    readonly launches: number | null;
  };
  /** What limits it: what takes most by these shares, unless none takes a third. */
  readonly by: "memory" | "arithmetic" | "launches" | "other work" | "unknown";
}

/** A share below which none of the three explains the time. */
const explaining = 1 / 3;

/** Of a model that gives so many tokens per second. Null where nothing is compiled. */
export async function limitsOfToken(
  model: Model,
  tokensPerSecond: number,
  probes: readonly BackendProbe[],
  threads: number | undefined,
): Promise<Limits | null> {
  const speed = await measureSpeed(model, tokensPerSecond);
  if (speed === null) return null;
  const expected = expectedOf(model, probes, threads ?? model.choice?.threads ?? undefined);
  const { reading, weightBytes } = speed;
  const shares = {
    memory: reading === null ? (expected?.seconds.reading ?? null) : weightBytes / reading,
    arithmetic: expected?.seconds.operations ?? null,
    launches: expected?.seconds.launches ?? null,
  };
  const share = (seconds: number | null) => (seconds === null ? null : seconds * tokensPerSecond);
  const found = {
    memory: share(shares.memory),
    arithmetic: share(shares.arithmetic),
    launches: share(shares.launches),
  };
  return { speed, expected, shares: found, by: largest(found) };
}

function largest(shares: Limits["shares"]): Limits["by"] {
  const known = (["memory", "arithmetic", "launches"] as const).filter((name) => shares[name] !== null);
  const [first] = known.sort((a, b) => shares[b]! - shares[a]!);
  if (first === undefined) return "unknown";
  if (shares[first]! >= explaining) return first;
  return known.length === 3 ? "other work" : "unknown";
}

/** By the probe's figures of the model's backend, if it has any. */
function expectedOf(model: Model, probes: readonly BackendProbe[], threads: number | undefined): ExpectedSpeed | null {
  const backend = model.device?.target.name;
  const rows = probes.filter((each) => each.backend === backend && each.missing === null && each.figures !== null);
  if (rows.length === 0) return null;
  // Whoever runs on a GPU that software plays wants its figures all the same: it was asked for by name.
  const wanted = { backend, threads, precisions: [precisionOf(model.program.report.quantize)] };
  const { chosen } = chooseTarget(model.config, rows, wanted);
  return chosen.measured ? chosen.speed : null;
}
