/**
 * A rank obeying its messages: one command after another, or, where its link can tell the messages of different steps
 * apart, those of different cache spaces side by side, so that a device computes a step of one lane while the results of
 * another travel. It says when each is done.
 */
import { errorMessage } from "../error-message.ts";
import type { CacheSpace, Command, FromRank, ToRank } from "./messages.ts";
import type { RankRunner } from "./rank-runner.ts";

/** The way to and from whoever drives. */
export interface RankPort {
  readonly listen: (hear: (message: ToRank) => void) => void;
  readonly post: (message: FromRank, transfer?: readonly ArrayBuffer[]) => void;
  readonly close: () => void;
}

/** `open` is called at once; what goes wrong in it is told with the first message. */
export function serveRank(port: RankPort, open: () => Promise<RankRunner>): void {
  const opened = open();
  opened.catch(() => {});
  const turns = new Turns(opened.then(({ interleaves }) => interleaves));
  port.listen((message) => {
    if (message.kind === "end") void end(port, opened, turns);
    else void turns.take(message.command, () => obey(port, opened, message.id, message.command));
  });
}

/** Which commands wait for which. */
class Turns {
  readonly #interleaves: Promise<boolean>;
  #alone: Promise<void> = Promise.resolve();
  readonly #spaces = new Map<CacheSpace, Promise<void>>();

  constructor(interleaves: Promise<boolean>) {
    this.#interleaves = interleaves.catch(() => false);
  }

  /** Programs are prepared, and those of others heard of, while nothing runs. */
  take({ kind, space }: Command, run: () => Promise<void>): Promise<void> {
    const alone = kind === "prepare" || kind === "join";
    const before = alone ? this.all() : Promise.all([this.#alone, this.#spaces.get(space)]);
    const others = alone ? Promise.resolve() : this.all();
    const done = before
      .then(() => this.#interleaves)
      .then((beside) => (beside ? undefined : others))
      .then(run);
    if (alone) {
      this.#alone = done;
      this.#spaces.clear();
    } else this.#spaces.set(space, done);
    return done;
  }

  /** When all that is under way is done. */
  async all(): Promise<void> {
    await Promise.all([this.#alone, ...this.#spaces.values()]);
  }
}

async function end(port: RankPort, opened: Promise<RankRunner>, turns: Turns): Promise<void> {
  try {
    const runner = await opened;
    runner.stop("the mesh is closed");
    await turns.all();
    await runner.close();
  } catch (error) {
    port.post({ kind: "failed", id: null, error: errorMessage(error) });
  }
  port.close();
}

async function obey(port: RankPort, opened: Promise<RankRunner>, id: number, command: Command): Promise<void> {
  try {
    const runner = await opened;
    if (command.kind === "prepare") {
      await runner.prepare(command);
      const { memory, summary, offer } = runner;
      port.post({ kind: "answer", id, answer: { kind: "prepared", memory, summary, offer } });
    } else if (command.kind === "join") {
      runner.join(command.offers);
      port.post({ kind: "answer", id, answer: { kind: "joined" } });
    } else if (command.kind === "decode") {
      const decoded = await runner.decode(command);
      port.post({ kind: "answer", id, answer: { kind: "decoded", ...decoded } });
    } else {
      const stepped = await runner.step(command.space, command.step, command.batch);
      const { logits } = stepped;
      const transfer = logits?.buffer instanceof ArrayBuffer ? [logits.buffer] : [];
      port.post({ kind: "answer", id, answer: { kind: "stepped", ...stepped } }, transfer);
    }
  } catch (error) {
    port.post({ kind: "failed", id, error: errorMessage(error) });
  }
}
