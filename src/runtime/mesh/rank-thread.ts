/** What the thread of a rank runs: it does what the messages ask for, one after another, and says when it has. */
import { errorMessage } from "../error-message.ts";
import type { ToRank } from "./messages.ts";
import { openRank, type RankRunner } from "./rank-runner.ts";
import { type RankPort, rankPort } from "./threads.ts";

function serveRank(port: RankPort): void {
  const opened = openRank(port.start);
  // A failure is told with the first message.
  opened.catch(() => {});
  let turn: Promise<void> = Promise.resolve();
  port.listen((message) => {
    turn = turn.then(() => obey(port, opened, message));
  });
}

async function obey(port: RankPort, opened: Promise<RankRunner>, message: ToRank): Promise<void> {
  try {
    const runner = await opened;
    if (message.kind === "prepare") {
      await runner.prepare(message.space, message.size);
      port.post({ kind: "prepared", memory: runner.memory, summary: runner.summary });
    } else if (message.kind === "end") {
      await runner.close();
      port.close();
    } else {
      const stepped = await runner.step(message.space, message.step, message.batch);
      const { logits } = stepped;
      const transfer = logits?.buffer instanceof ArrayBuffer ? [logits.buffer] : [];
      port.post({ kind: "stepped", ...stepped }, transfer);
    }
  } catch (error) {
    port.post({ kind: "failed", error: errorMessage(error) });
  }
}

serveRank(rankPort());
